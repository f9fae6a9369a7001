"""Who is measured: flowstore, a raw driver, and Celery's own result backend, all behind the same few methods."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from celery import Celery, states

from flowstore import FlowStore

FLOW: Final = "bench"
TASK: Final = "bench.produce"
KIND: Final = "result"

OURS: Final = "flowstore"
RAW: Final = "raw driver"
CELERY: Final = "Celery"

T = TypeVar("T")


class Contender(ABC):
    """A way to keep values under ids, connected for the whole run, used by any number of threads."""

    batches: ClassVar[bool] = True
    """Whether it does anything else for a batch than for one after the other."""

    @abstractmethod
    def store(self, task_id: str, value: Any) -> None: ...

    @abstractmethod
    def retrieve(self, task_id: str) -> Any: ...

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        for task_id, value in items:
            self.store(task_id, value)

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        return [self.retrieve(task_id) for task_id in task_ids]

    def close(self) -> None:  # noqa: B027
        """Let go of what it holds."""


class Ours(Contender):
    """flowstore as applications call it."""

    def __init__(self, classname: str, configuration: Mapping[str, Any]) -> None:
        entry = {"name": "Bench", "classname": classname, "configuration": dict(configuration)}
        self._flowstore = FlowStore({"storages": [entry], "global": {"default_storage": "Bench"}})
        self._flowstore.task_storage(FLOW, TASK)  # connects, and creates what the raw driver's tables are copied from

    def store(self, task_id: str, value: Any) -> None:
        self._flowstore.store(FLOW, TASK, task_id, value)

    def retrieve(self, task_id: str) -> Any:
        return self._flowstore.retrieve(FLOW, TASK, task_id)

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        self._flowstore.store_many(((FLOW, TASK, task_id), value) for task_id, value in items)

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        return self._flowstore.retrieve_many((FLOW, TASK, task_id) for task_id in task_ids)

    def close(self) -> None:
        self._flowstore.close()


class CelerysOwn(Contender):
    """Celery's result backend as a worker's task uses it, with its own serializer and durability."""

    batches = False

    def __init__(self, url: str, **configuration: Any) -> None:
        self._app = Celery("bench", backend=url, set_as_current=False)
        self._app.conf.update(configuration)

    def store(self, task_id: str, value: Any) -> None:
        self._backend().store_result(task_id, value, states.SUCCESS)

    def retrieve(self, task_id: str) -> Any:
        # Without Celery's own cache, which would answer from this process.
        return self._backend().get_task_meta(task_id, cache=False)["result"]

    def _backend(self) -> Any:
        # One for each thread; Celery sees to that.
        backend = self._app.backend
        manager = getattr(backend, "session_manager", None)
        if manager is not None and not manager.forked:
            # As in a worker's process. Elsewhere Celery connects anew for each call, which is ten times slower still.
            manager.forked = True
        return backend

    def close(self) -> None:
        backend = self._app.backend
        manager = getattr(backend, "session_manager", None)
        if manager is not None:
            # Else its pool holds on to a connection, and PostgreSQL ends only when the last one has gone.
            manager.invalidate(backend.url)
        self._app.close()


class PerThread(Generic[T]):
    """A connection for each thread, held until all are closed."""

    def __init__(self, connect: Callable[[], T], close: Callable[[T], object]) -> None:
        self._connect = connect
        self._close = close
        self._local = threading.local()
        self._all: list[T] = []

    def get(self) -> T:
        try:
            return self._local.held  # type: ignore[no-any-return]
        except AttributeError:
            held = self._local.held = self._connect()
            self._all.append(held)
            return held

    def close(self) -> None:
        for held in self._all:
            self._close(held)


@dataclass(frozen=True)
class Subject:
    """An adapter and what it is compared with, in one database.

    Attributes:
        name: what ``--only`` selects.
        server: what answers, so that figures of an emulation are not taken for a database's.
        contenders: by name; flowstore and the raw driver always.
        notes: what has to be known to read the figures.
        skipped: who can't hold values of which size.
    """

    name: str
    server: str
    contenders: Mapping[str, Contender]
    notes: Sequence[str] = ()
    skipped: Collection[tuple[str, str]] = ()


@contextmanager
def closing(subject: Subject) -> Iterator[Subject]:
    """Yield a subject, and close its contenders afterwards."""
    try:
        yield subject
    finally:
        for contender in subject.contenders.values():
            contender.close()
