"""The storages of a process, one per name, connected on first use."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress

from flowstore.config import Configuration, StorageEntry
from flowstore.config.adapters import adapter_class, construct
from flowstore.encoding.pipeline import DEFAULT_PIPELINE, Pipeline
from flowstore.errors import FlowstoreError, UnknownStorageError
from flowstore.forks import renew_in_children
from flowstore.interrupts import is_interrupt
from flowstore.storage import DataStorage, RecordStorage
from flowstore.storage.connecting import connect, described, raise_typed

log = logging.getLogger(__name__)

# Storages of a parent process. Held for ever: closing or collecting them would break the parent's connections.
_abandoned: list[DataStorage] = []


class Registry:
    """Construct and connect the storages that a configuration declares.

    Thread-safe. After a fork, the child starts with nothing connected.
    """

    _ready: dict[str, DataStorage]

    def __init__(self, configuration: Configuration) -> None:
        self._entries = configuration.storages
        self._pipelines: dict[str, Pipeline] = {}
        self._start_over()
        renew_in_children(self)
        atexit.register(_close, weakref.ref(self))

    def __del__(self) -> None:
        # Without this, a driver may keep its connection open after the FlowStore and its app are gone.
        # No traceback: Python 3.11 can't parse a line of source if this is called while it is parsing.
        if getattr(self, "_ready", None) and self._pid == os.getpid():
            for name, exc in self._disconnect_all():
                log.error("can't disconnect storage %r: %s: %s", name, type(exc).__name__, exc)

    def get(self, name: str) -> DataStorage:
        """Return a storage: the adapter itself, connected.

        Concurrent callers cause one ``connect`` and share its outcome. After a failure, the next call tries again. If
        the connecting thread was interrupted, the waiting ones connect by themselves.

        Raises:
            UnknownStorageError: the storage is not declared.
            ConfigurationError: it can't be connected with this configuration. Retrying won't help.
            UnreachableError: its database can't be reached.
            StorageError: its adapter has a bug.
        """
        if self._pid != os.getpid():
            self.renew_after_fork()
        storage = self._ready.get(name)
        if storage is not None and _is_connected(storage, name):
            return storage
        return self._connected(name)

    def pipeline(self, name: str) -> Pipeline:
        """Return the pipeline of a storage, without connecting to it.

        Raises:
            ConfigurationError: a package that it needs is not installed.
        """
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            pipeline = self._pipelines[name] = _pipeline(self._entries[name])
        return pipeline

    def preload(self, name: str) -> None:
        """Import what a storage needs, without I/O, before a process forks.

        An error is only logged: it will be raised when the storage is first used.
        """
        try:
            self._instance(name).preload()
        except Exception as exc:
            if is_interrupt(exc):
                raise
            log.warning("can't preload storage %r", name, exc_info=True)

    def close(self) -> None:
        """Disconnect all storages of this process.

        A storage that is used afterwards is connected again.
        """
        if self._pid != os.getpid():
            self.renew_after_fork()
        for name, exc in self._disconnect_all():
            log.error("can't disconnect storage %r", name, exc_info=exc)

    def renew_after_fork(self) -> None:
        """Start over in a child, without closing the parent's connections."""
        _abandoned.extend(self._instances.values())
        self._start_over()

    def _disconnect_all(self) -> Iterator[tuple[str, Exception]]:
        """Disconnect all storages; yield each error with the name."""
        with self._lock:
            ready = self._ready
            self._ready = {}
        for name, storage in ready.items():
            try:
                if storage.is_connected():
                    storage.disconnect()
            except Exception as exc:
                if is_interrupt(exc):
                    raise
                yield name, exc

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._instances: dict[str, DataStorage] = {}
        self._ready = {}
        self._connecting: dict[str, Future[DataStorage | None]] = {}
        self._described: set[str] = set()

    def _connected(self, name: str) -> DataStorage:
        if name not in self._entries:
            raise UnknownStorageError(f"no storage named {name!r}; declared are: {', '.join(self._entries) or 'none'}")
        ours: Future[DataStorage | None] = Future()
        connected: DataStorage | None = None
        error: FlowstoreError | None = None
        try:
            while True:
                with self._lock:
                    storage = self._ready.get(name)
                    if storage is not None and _is_connected(storage, name):
                        return storage
                    future = self._connecting.setdefault(name, ours)
                if future is ours:
                    break
                # None: the connecting thread was interrupted, so this one has to connect.
                if (found := future.result()) is not None:
                    return found
            # Without the lock: other storages must not wait for this one.
            connected = self._connect(name)
        except FlowstoreError as exc:
            error = exc
            raise
        finally:
            self._end_connecting(name, ours, connected, error)
        return connected

    def _connect(self, name: str) -> DataStorage:
        storage = self._instance(name)
        connect(storage, name)
        if name not in self._described:
            self._described.add(name)
            log.info("storage %r: %s", name, described(storage))
        return storage

    def _end_connecting(
        self, name: str, ours: Future[DataStorage | None], storage: DataStorage | None, error: FlowstoreError | None
    ) -> None:
        """Pass the outcome to the waiting threads, if this call was connecting."""
        with self._lock:
            if self._connecting.get(name) is not ours:
                return
            del self._connecting[name]
            if storage is not None:
                self._ready[name] = storage
        if error is None:
            ours.set_result(storage)
        else:
            ours.set_exception(error)

    def _instance(self, name: str) -> DataStorage:
        storage = self._instances.get(name)
        if storage is None:
            entry = self._entries[name]
            try:
                storage = construct(entry, self.get)
            except Exception as exc:
                raise_typed(exc, adapter_class(entry), name, "__init__")
            if isinstance(storage, RecordStorage):
                storage.pipeline = self.pipeline(name)
                storage.allow_clear = entry.allow_clear
                if entry.blob_threshold is not None:
                    storage.blob_threshold = entry.blob_threshold
                if entry.max_result_size is not None:
                    storage.max_result_size = entry.max_result_size
            with suppress(TypeError):  # the adapter takes no attributes
                # Keeps the registry, which disconnects the storage when it is collected, as long as the storage.
                vars(storage)["_registry"] = self
            storage = self._instances.setdefault(name, storage)
        return storage


def _pipeline(entry: StorageEntry) -> Pipeline:
    names = {"serializer": "json", "strict": False, "decode_limit": None, "compression": None, "encryption": None}
    how = {name: getattr(entry, name) for name, default in names.items() if getattr(entry, name) != default}
    return Pipeline(**how) if how else getattr(adapter_class(entry), "pipeline", DEFAULT_PIPELINE)


def _is_connected(storage: DataStorage, name: str) -> bool:
    try:
        return storage.is_connected()
    except Exception as exc:
        raise_typed(exc, storage, name, "is_connected")


def _close(registry: weakref.ref[Registry]) -> None:
    if (living := registry()) is not None:
        living.close()
