"""``FlowStore``: what applications call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from flowstore.config import Configuration, loading
from flowstore.duration import Duration
from flowstore.errors import ConfigurationError, NotFoundError
from flowstore.record import ERROR, Query, Record
from flowstore.record.failure import RemoteTaskError, summary
from flowstore.storage import DataStorage
from flowstore.store.batch_facade import BatchFacade
from flowstore.store.batches import Batches
from flowstore.store.blobs import BlobFacade
from flowstore.store.defaults import CONFIGURED, RAISE
from flowstore.store.flow import FlowRun
from flowstore.store.history import History
from flowstore.store.operations import Operations
from flowstore.store.registry import Registry
from flowstore.store.routing import Route, Router
from flowstore.store.runs import Runs
from flowstore.store.state_facade import StateFacade
from flowstore.store.upkeep import Upkeep
from flowstore.store.upkeep_facade import UpkeepFacade

if TYPE_CHECKING:
    from celery import Celery
    from celery.canvas import Signature

APP_ATTRIBUTE: Final = "flowstore"
"""The attribute of a Celery app that holds the FlowStore attached to it."""


class FlowStore(BatchFacade, BlobFacade, StateFacade, UpkeepFacade):
    """Store and retrieve what task flows produce, in the storages that a configuration names.

    Args:
        source: the path of a YAML file, a mapping of the same form, a configuration that
            ``flowstore.config.loading`` has read, or ``None`` for the file that the environment variable
            ``FLOWSTORE_CONFIG`` names.
        app: a Celery app to attach to at once.
        overrides: values that win over the file and the environment, by dotted name (``storages.Hot.host``).

    Raises:
        ConfigurationError: the configuration is wrong; lists every mistake. Nothing has been connected.

    Nothing connects before it is used. One instance serves all threads of a process, and its forked children.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any] | Configuration | None = None,
        *,
        app: Celery | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(source, Configuration):
            self.configuration = source
        else:
            self.configuration = loading.load(source, overrides=overrides)
        self._app: Celery | None = None
        self.router = Router(self.configuration)
        self._registry = Registry(self.configuration)
        self.operations = Operations(self.configuration, self._registry)
        self.flow_runs = Runs(self.router, self.operations)
        self.flow_batches = Batches(self.router, self.operations)
        self.flow_upkeep = Upkeep(self.configuration, self.router, self.operations, self.flow_runs)
        self.flow_history = History(self.router, self.operations)
        if app is not None:
            self.attach(app)

    def __repr__(self) -> str:
        return f"<FlowStore {self.configuration.source}: {', '.join(self.configuration.storages)}>"

    # Celery

    def attach(self, app: Celery) -> None:
        """Keep the results and errors of every task of a Celery app that has a storage.

        To be called in the module that makes the app, so that workers and clients do it alike. A second call with the
        same app changes nothing.

        Raises:
            ConfigurationError: another FlowStore is attached to the app already.
        """
        from flowstore.celery import attach

        attach(self, app)
        self._app = app

    def detach(self, app: Celery | None = None) -> None:
        """Leave an app as if it had never been attached: its tasks, its result backend, its messages. For tests.

        Not to be called while one of the app's tasks is executed. Storages stay connected: see ``close``.

        Args:
            app: the app; without it, the one that was attached last.

        Raises:
            ConfigurationError: this FlowStore is not attached to the app.
        """
        from flowstore.celery import detach

        app = self._app if app is None else app
        if app is None or self.attached_to(app) is not self:
            raise ConfigurationError(f"{self!r} is not attached to {'any app' if app is None else app!r}")
        detach(app)
        if app is self._app:
            self._app = None

    def start(self, flow_name: str, canvas: Signature | Any, **options: Any) -> FlowRun:
        """Start a signature (a task's, a chain, group or chord) as a flow.

        Args:
            flow_name: the name under which everything that it runs is stored.
            canvas: the signature, or a mapping that one was made of by JSON; a task stands for its signature without
                arguments.
            options: passed on to ``apply_async`` (``countdown``, ``queue``, …).

        Returns:
            The flow run. It is stored before anything is sent, with the ids, names and places of all its tasks. Of an
            empty group it is done at once, with ``[]`` as its result.

        Raises:
            ConfigurationError: no app is attached, or the flow has no storage.
            StorageError: the run can't be stored; nothing was sent.
            ValueError: the canvas is an empty chain, of which Celery has no result; nothing was stored.
            TypeError: it is no signature; nothing was stored.
            NotSentError: ``apply_async`` sent nothing; no run is stored.
        """
        from flowstore.celery import start

        return start(self, self._app, flow_name, canvas, options)

    @staticmethod
    def attached_to(app: Celery) -> FlowStore | None:
        """Return the FlowStore that is attached to an app, or ``None``."""
        found = getattr(app, APP_ATTRIBUTE, None)
        return found if isinstance(found, FlowStore) else None

    # Storages

    def storage(self, name: str) -> DataStorage:
        """Return a storage by its configured name: the adapter itself, connected.

        Raises:
            UnknownStorageError: no such storage is declared.
            StorageError: it can't be connected.
        """
        return self._registry.get(name)

    def task_storage(self, flow_name: str, task_name: str) -> DataStorage:
        """Return the storage that the configuration gives a task: the adapter itself, connected."""
        return self._registry.get(self.router.required(flow_name, task_name).storage.name)

    def preload(self) -> None:
        """Import what the storages in use need, without any I/O: for a process that is going to fork."""
        for entry in self.router.used_storages():
            self._registry.preload(entry.name)

    def stored_name(self, task_name: str) -> str:
        """Return the name under which a task is stored: its ``storage_task_name``, or its own."""
        return self.router.stored_name(task_name)

    def route(self, flow_name: str, task_name: str) -> Route | None:
        """Return what the configuration says of a task, or ``None`` if it is not stored."""
        return self.router.route(flow_name, task_name)

    def close(self) -> None:
        """Disconnect all storages of this process. What is used afterwards is connected again."""
        self._registry.close()

    # Results and errors. ``task_name`` is the Celery task's name, or its storage_task_name, everywhere.

    def store(
        self,
        flow_name: str,
        task_name: str,
        task_id: str,
        result: object,
        *,
        expires_in: Duration | None = CONFIGURED,
    ) -> str | None:
        """Store a result in the storage that the configuration gives this task.

        Args:
            expires_in: how long it is kept: seconds, a ``timedelta``, or a text such as ``"7d"``; ``None`` for ever.
                Without it, what the configuration says counts: of the task, its flow, or the storage.

        Returns:
            The record's id; for a plain ``DataStorage`` whatever its ``store`` returned, as a string.

        Raises:
            UnknownStorageError: the task has no storage.
            SerializationError, ResultSchemaError, ResultTooLargeError: the result is refused; an older one is still
                there.
            ConflictError: another result is stored already, under ``on_conflict: error``.
            StorageError: it could not be stored.
        """
        route, key = self._routed(flow_name, task_name, task_id, expires_in)
        return self.operations.store_result(route, key, result, {"state": "SUCCESS"})

    def retrieve(self, flow_name: str, task_name: str, task_id: str, default: Any = RAISE) -> Any:
        """Return a result: an object of the caller's own.

        Args:
            default: returned instead of raising NotFoundError. Every other error is raised all the same.

        Raises:
            NotFoundError: no result is stored under this key.
            CorruptError: it can't be read.
            UnreachableError: the storage can't be asked.
            UnknownStorageError: the task has no storage.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        try:
            return self.operations.retrieve(route, key)
        except NotFoundError:
            if default is RAISE:
                raise
            return default

    def store_error(
        self,
        node_args: Any,
        flow_name: str,
        task_name: str,
        task_id: str,
        exc_info: BaseException | tuple[type[BaseException], BaseException, TracebackType | None],
    ) -> str | None:
        """Store the error that ended a task.

        Args:
            node_args: the task's arguments, kept as text; anything.
            exc_info: what ``sys.exc_info()`` gave, or the exception.

        Raises:
            UnknownStorageError, StorageError: as ``store``.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        exc = exc_info if isinstance(exc_info, BaseException) else exc_info[1]
        return self.operations.store_error(route, key, exc, {"node_args": node_args, "error": summary(exc)})

    def retrieve_error(
        self, flow_name: str, task_name: str, task_id: str, default: Any = RAISE, *, attempt: int | None = None
    ) -> RemoteTaskError | Any:
        """Return an error of a task: an exception that shows the whole chain when raised, with the data in ``failure``.

        Args:
            default: returned instead of raising NotFoundError.
            attempt: the number of an attempt that failed and was retried; ``None`` for the error that ended the task.

        Raises:
            NotFoundError, CorruptError, UnreachableError, UnknownStorageError: as ``retrieve``.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        try:
            return self.operations.retrieve_error(route, key, "" if attempt is None else str(attempt))
        except NotFoundError:
            if default is RAISE:
                raise
            return default

    def errors(self, flow_name: str, task_name: str, task_id: str) -> list[RemoteTaskError]:
        """Return all errors of a task: those of retried attempts in their order, then the one that ended it, if any."""
        route, key = self._routed(flow_name, task_name, task_id)
        query = Query((ERROR,), key.flow_name, key.task_name, key.task_id)
        found = list(self.operations.listed(route.storage, query))
        found.sort(key=lambda record: (not record.ref.name, record.headers.get("attempt", 0)))
        decode = self.operations.pipeline(route.storage).decode_error
        return [decode(record) for record in found]

    def delete(self, flow_name: str, task_name: str, task_id: str) -> bool:
        """Delete everything stored under a key: result and errors; tell whether there was anything."""
        route, key = self._routed(flow_name, task_name, task_id)
        return self.operations.delete(route, key)

    # Flow runs

    def runs(self, flow_name: str, limit: int | None = 100) -> list[FlowRun]:
        """Return the runs of a flow that were started with ``start``, the latest first.

        Raises:
            UnknownStorageError: the flow has no storage.
        """
        return self.flow_runs.list(flow_name, limit)

    def run(self, run_id: str) -> FlowRun:
        """Return a flow run by its id.

        A canvas that was sent without ``start`` is found too: by the id of its group, or of its first task.

        Raises:
            NotFoundError: nothing is stored of it.
        """
        return self.flow_runs.find(run_id)

    def run_records(self, run_id: str, kinds: tuple[str, ...] | None = None) -> Iterator[tuple[str, Record]]:
        """Iterate over the records of a run in all storages in use, without payloads, each with its storage's name."""
        return self.flow_runs.run_records(run_id, kinds)
