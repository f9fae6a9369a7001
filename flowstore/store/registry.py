"""Live storages: one instance per configured name and process, connected by the first use."""

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
from flowstore.encoding.pipeline import PLAIN, Pipeline
from flowstore.errors import FlowstoreError, UnknownStorageError
from flowstore.forks import renew_in_children
from flowstore.interrupts import is_interrupt
from flowstore.storage import DataStorage, RecordStorage
from flowstore.storage.connecting import connect, described, raise_typed

log = logging.getLogger(__name__)

# Connections of a parent process: held for ever, because closing or collecting them would disturb the parent's.
_abandoned: list[DataStorage] = []


class Registry:
    """Hand out the storages that a configuration declares.

    Safe to use from any number of threads, and across forks: a child starts with nothing connected.
    """

    _ready: dict[str, DataStorage]

    def __init__(self, configuration: Configuration) -> None:
        self._entries = configuration.storages
        self._pipelines: dict[str, Pipeline] = {}
        self._start_over()
        renew_in_children(self)
        atexit.register(_close, weakref.ref(self))

    def __del__(self) -> None:
        # Together with the FlowStore and the app that hold it: a driver's connection may stay open without.
        # No traceback is shown: Python 3.11 can't parse a line of source where it was parsing when this was called.
        if getattr(self, "_ready", None) and self._pid == os.getpid():
            for name, exc in self._disconnect_all():
                log.error("storage %r could not be disconnected: %s: %s", name, type(exc).__name__, exc)

    def get(self, name: str) -> DataStorage:
        """Return a storage: the adapter itself, connected.

        Threads that ask at the same time cause one ``connect`` and share its outcome; a failed one is tried again by
        the next call. One that was interrupted is nobody else's: they try by themselves.

        Raises:
            UnknownStorageError: no storage of that name is declared.
            ConfigurationError: it can't be connected as it is configured; trying again won't help.
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
        """Return what encodes and decodes the values of a storage, without connecting to it.

        Raises:
            ConfigurationError: a package that it needs is not installed.
        """
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            pipeline = self._pipelines[name] = _pipeline(self._entries[name])
        return pipeline

    def preload(self, name: str) -> None:
        """Import what connecting a storage needs, without any I/O. What fails will fail again at the first use.

        To be called before a process forks: its children share what it has imported.
        """
        try:
            self._instance(name).preload()
        except Exception as exc:
            if is_interrupt(exc):
                raise
            log.warning("what storage %r needs can't be imported", name, exc_info=True)

    def close(self) -> None:
        """Disconnect every storage of this process. What is used afterwards is connected again."""
        if self._pid != os.getpid():
            self.renew_after_fork()
        for name, exc in self._disconnect_all():
            log.error("storage %r could not be disconnected", name, exc_info=exc)

    def renew_after_fork(self) -> None:
        """Begin anew in a child process; the parent's connections are left alone, not closed."""
        _abandoned.extend(self._instances.values())
        self._start_over()

    def _disconnect_all(self) -> Iterator[tuple[str, Exception]]:
        """Disconnect what is connected; iterate over what that raises."""
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
        self._told: set[str] = set()

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
                # Without a storage, whoever was connecting it was interrupted, which is no answer for this caller.
                if (found := future.result()) is not None:
                    return found
            # The lock is free while connecting: other storages must not wait for this one.
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
        if name not in self._told:
            self._told.add(name)
            log.info("storage %r: %s", name, described(storage))
        return storage

    def _end_connecting(
        self, name: str, ours: Future[DataStorage | None], storage: DataStorage | None, error: FlowstoreError | None
    ) -> None:
        """Tell those who wait how connecting went, if it was this call that did it."""
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
            with suppress(TypeError):  # of an adapter that takes none
                # Closed with this, it must not be closed while somebody still uses it.
                vars(storage)["_registry"] = self
            storage = self._instances.setdefault(name, storage)
        return storage


def _pipeline(entry: StorageEntry) -> Pipeline:
    names = {"serializer": "json", "strict": False, "decode_limit": None, "compression": None, "encryption": None}
    how = {name: getattr(entry, name) for name, default in names.items() if getattr(entry, name) != default}
    return Pipeline(**how) if how else getattr(adapter_class(entry), "pipeline", PLAIN)


def _is_connected(storage: DataStorage, name: str) -> bool:
    try:
        return storage.is_connected()
    except Exception as exc:
        raise_typed(exc, storage, name, "is_connected")


def _close(registry: weakref.ref[Registry]) -> None:
    if (living := registry()) is not None:
        living.close()
