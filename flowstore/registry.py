"""Live storages: one instance per configured name and process, connected by the first use."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import weakref
from concurrent.futures import Future
from typing import Any

from flowstore import loading
from flowstore.config import Configuration, StorageEntry
from flowstore.errors import FlowstoreError, StorageError, UnknownStorageError, UnreachableError
from flowstore.forks import renew_in_children
from flowstore.pipeline import PLAIN, Pipeline
from flowstore.storage import DataStorage, RecordStorage

log = logging.getLogger(__name__)

# The operations of an adapter that lets in one thread at a time; its own further methods are its own affair.
_SERIALIZED = ("connect", "disconnect", "is_connected", "retrieve", "store", "store_error", "delete")

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

    def get(self, name: str) -> DataStorage:
        """Return a storage: the adapter itself, connected.

        Threads that ask at the same time cause one ``connect`` and share its outcome; a failed one is tried again by
        the next call.

        Raises:
            UnknownStorageError: no storage of that name is declared.
            StorageError: it can't be connected.
        """
        if self._pid != os.getpid():
            self.renew_after_fork()
        storage = self._ready.get(name)
        if storage is not None and storage.is_connected():
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
        except Exception:
            log.warning("what storage %r needs can't be imported", name, exc_info=True)

    def close(self) -> None:
        """Disconnect every storage of this process. What is used afterwards is connected again."""
        if self._pid != os.getpid():
            self.renew_after_fork()
        with self._lock:
            ready = self._ready
            self._ready = {}
        for name, storage in ready.items():
            try:
                if storage.is_connected():
                    storage.disconnect()
            except Exception:
                log.exception("storage %r could not be disconnected", name)

    def renew_after_fork(self) -> None:
        """Begin anew in a child process; the parent's connections are left alone, not closed."""
        _abandoned.extend(self._instances.values())
        self._start_over()

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._instances: dict[str, DataStorage] = {}
        self._ready = {}
        self._connecting: dict[str, Future[DataStorage]] = {}

    def _connected(self, name: str) -> DataStorage:
        if name not in self._entries:
            raise UnknownStorageError(f"no storage named {name!r}; declared are: {', '.join(self._entries) or 'none'}")
        with self._lock:
            storage = self._ready.get(name)
            if storage is not None and storage.is_connected():
                return storage
            future = self._connecting.get(name)
            if ours := future is None:
                future = self._connecting[name] = Future()
        assert future is not None
        if not ours:
            return future.result()
        # The lock is free while connecting: other storages must not wait for this one.
        try:
            storage = self._connect(name)
        except BaseException as exc:
            with self._lock:
                del self._connecting[name]
            future.set_exception(exc)
            raise
        with self._lock:
            self._ready[name] = storage
            del self._connecting[name]
        future.set_result(storage)
        return storage

    def _connect(self, name: str) -> DataStorage:
        storage = self._instance(name)
        try:
            storage.connect()
        except StorageError as exc:
            exc.storage = name
            raise
        except FlowstoreError:
            raise
        except Exception as exc:
            if isinstance(storage, RecordStorage):  # which translates what its driver raises; the rest are bugs
                raise
            error = UnreachableError(f"storage {name!r} can't be connected: {type(exc).__name__}: {exc}")
            error.storage = name
            raise error from exc
        return storage

    def _instance(self, name: str) -> DataStorage:
        storage = self._instances.get(name)
        if storage is None:
            entry = self._entries[name]
            storage = loading.construct(entry, self.get)
            if isinstance(storage, RecordStorage):
                storage.pipeline = self.pipeline(name)
                storage.allow_clear = entry.allow_clear
                if entry.blob_threshold is not None:
                    storage.blob_threshold = entry.blob_threshold
                if entry.max_result_size is not None:
                    storage.max_result_size = entry.max_result_size
            if not storage.thread_safe:
                _serialize(storage)
            storage = self._instances.setdefault(name, storage)
        return storage


def _pipeline(entry: StorageEntry) -> Pipeline:
    if entry.serializer == "json" and not entry.strict and entry.compression is None and entry.encryption is None:
        return getattr(loading.adapter_class(entry), "pipeline", PLAIN)
    return Pipeline(entry.serializer, compression=entry.compression, encryption=entry.encryption, strict=entry.strict)


def _serialize(storage: DataStorage) -> None:
    """Let one thread at a time into an adapter; on the instance, so that people still get the adapter itself."""
    lock = threading.RLock()

    def serialized(method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return method(*args, **kwargs)

        return call

    for name in _SERIALIZED:
        method = getattr(storage, name, None)
        if method is not None:
            setattr(storage, name, serialized(method))


def _close(registry: weakref.ref[Registry]) -> None:
    if (living := registry()) is not None:
        living.close()
