"""Adapters that the tests of the core declare by this module's name."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

from flowstore import DataStorage, Page, Query, Record, Ref, UnreachableError
from flowstore.storages import MemoryStorage


class PlainStorage(DataStorage):
    """The minimum; notes down who connects, and how many threads are inside at once."""

    def __init__(self, failing=0, errors="keyerror"):  # type: ignore[no-untyped-def]
        self.failing = failing
        self.pid: int | None = None
        self.connects = 0
        self.disconnects = 0
        self.inside = 0
        self.most_inside = 0
        self.values: dict[Any, Any] = {}
        self.gate = threading.Event()
        self.gate.set()

    def is_connected(self) -> bool:
        return self.pid is not None

    def connect(self) -> None:
        self.connects += 1
        assert self.gate.wait(60)
        if self.failing:
            self.failing -= 1
            raise ConnectionRefusedError("nobody is listening")
        self.pid = os.getpid()

    def disconnect(self) -> None:
        self.disconnects += 1
        self.pid = None

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        return self.values[flow_name, task_name, task_id]

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> Any:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        for _ in range(100):
            os.sched_yield()
        self.values[flow_name, task_name, task_id] = result
        self.inside -= 1

    def own_method(self) -> str:
        return "own"


class ErrorStorage(PlainStorage):
    """Keeps errors too, and deletes."""

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: Any) -> Any:
        self.values["error", flow_name, task_name, task_id] = (node_args, exc_info)
        return 17

    def delete(self, flow_name: str, task_name: str, task_id: str) -> None:
        del self.values[flow_name, task_name, task_id]


class ThreadSafeStorage(PlainStorage):
    thread_safe = True


class StubbornStorage(PlainStorage):
    """Can't be disconnected."""

    def disconnect(self) -> None:
        super().disconnect()
        raise OSError("no")


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class SilentStorage(PlainStorage):
    """Fails with an exception of which no text can be made."""

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> Any:
        raise NoText(result)


class DeafStorage(PlainStorage):
    """Can't be connected, and can't say why."""

    def connect(self) -> None:
        raise NoText


class FlakyStorage(MemoryStorage):
    """Unreachable for so many writes; each of them may have arrived nevertheless."""

    def __init__(self, failing: int = 0, arrives: bool = False) -> None:
        super().__init__()
        self.failing = failing
        self.arrives = arrives
        self.tries = 0

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        self.tries += 1
        if self.failing:
            self.failing -= 1
            if self.arrives:
                super()._put(record, if_revision, now)
            raise UnreachableError("the line is cut")
        return super()._put(record, if_revision, now)


class AwayStorage(MemoryStorage):
    """Counts what it is asked, and fails so many times from one step on; or in everything while it is down."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.begins = 0
        self.lasts = 0
        self.down = False
        self.error: type[UnreachableError] = UnreachableError

    def _step(self) -> None:
        step, self.steps = self.steps, self.steps + 1
        if self.down or (self.lasts and step >= self.begins):
            self.lasts = max(0, self.lasts - 1)
            raise self.error("the line is cut")

    def connect(self) -> None:
        if self.down:
            raise UnreachableError("nobody is listening")
        super().connect()

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        self._step()
        return super()._get(ref, payload)

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        self._step()
        return super()._put(record, if_revision, now)

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        self._step()
        return super()._scan(query, cursor, limit, payload)

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        self._step()
        return super()._get_many(refs)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        self._step()
        return super()._put_many(records, now)

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        self._step()
        return super()._delete_many(refs)

    def _count(self, query: Query) -> int:
        self._step()
        return super()._count(query)
