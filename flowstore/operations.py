"""Storing and retrieving by the policies of a route: retry, conflict, schema, cache."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from flowstore.cache import Caches
from flowstore.config import Configuration, StorageEntry
from flowstore.errors import (
    ConflictError,
    FlowstoreError,
    NotFoundError,
    StorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.failure import RemoteTaskError
from flowstore.pipeline import Pipeline
from flowstore.record import ERROR, RESULT, Key, Record, Ref
from flowstore.registry import Registry
from flowstore.routing import Route
from flowstore.schema import check_result
from flowstore.storage import DataStorage, RecordStorage, keeps_errors

log = logging.getLogger(__name__)

RETRY_ATTEMPTS = 5
"""How often ``on_store_error: retry`` tries in all, with growing, random pauses of at most two seconds."""

T = TypeVar("T")
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class Operations:
    """Carry out what callers and tasks ask for, on the storages of a registry. Safe in threads."""

    def __init__(self, configuration: Configuration, registry: Registry) -> None:
        self._registry = registry
        self.caches = Caches(configuration, lambda storage: as_records(registry.get(storage)).now())

    def store_result(self, route: Route, key: Key, result: object, facts: Mapping[str, Any]) -> str | None:
        """Store a result; return the record's id.

        Raises:
            ResultSchemaError, SerializationError: the result is refused; what was stored before is still there.
            ConflictError: something else is stored already, under ``on_conflict: error``.
            StorageError: it could not be stored, also after the retries that the policy allows.
        """
        refuse_readonly(route, key)
        check_result(route.output_schema, result, key)
        ref = Ref(RESULT, key)
        record: Record | None = None

        def write(storage: DataStorage) -> str | None:
            nonlocal record
            if isinstance(storage, RecordStorage):
                if record is None:
                    # Once, also when the write is tried again: its token tells that it is the same write.
                    facts_and_times = {**facts, **times(storage, route)}
                    record = self.pipeline(route.storage).encode(ref, result, facts_and_times)
                self._put(route.storage, storage, record)
                return ref.address.hex()
            _refuse_expiry(storage, route)
            stored = storage.store(key.flow_name, key.task_name, key.task_id, result)
            return None if stored is None else str(stored)

        try:
            return self._write(route.storage, write)
        finally:
            self.caches.drop(route.storage.name, ref)

    def store_error(
        self, route: Route, key: Key, exc: BaseException, facts: Mapping[str, Any], name: str = "", retry: bool = True
    ) -> str | None:
        """Store an error; return the record's id.

        Args:
            facts: headers, and in ``node_args`` the task's arguments.
            name: ``""`` for the error that ended the task, else the number of the attempt that failed.
            retry: whether the policy's retries may be used.
        """
        refuse_readonly(route, key)
        ref = Ref(ERROR, key, name)
        record = functools.cache(
            lambda storage: self.pipeline(route.storage).encode_error(ref, exc, {**facts, **times(storage, route)})
        )

        def write(storage: DataStorage) -> str | None:
            if isinstance(storage, RecordStorage):
                storage.put(record(storage))
                return ref.address.hex()
            if not keeps_errors(storage):
                raise UnsupportedError(f"storage {route.storage.name!r} keeps no errors: it defines no store_error()")
            _refuse_expiry(storage, route)
            exc_info: ExcInfo = (type(exc), exc, exc.__traceback__)
            stored = storage.store_error(facts.get("node_args"), key.flow_name, key.task_name, key.task_id, exc_info)
            return None if stored is None else str(stored)

        return self._write(route.storage, write, retry=retry)

    def retrieve(self, route: Route, key: Key) -> Any:
        """Return the result stored under a key: an object of the caller's own.

        Raises:
            NotFoundError, CorruptError, UnreachableError
        """
        if route.storage.name not in self.caches:
            return self._call(route.storage, lambda storage: self._read(storage, route, key)[0])
        ref = Ref(RESULT, key)
        kept = self.caches.get(route.storage.name, ref)
        if kept is not None:
            return self.pipeline(route.storage).decode(kept) if isinstance(kept, Record) else copy.deepcopy(kept[0])
        keep = self.caches.keeper(route.storage.name)

        def read(storage: DataStorage) -> Any:
            value, found = self._read(storage, route, key)
            keep(ref, found)
            return value

        return self._call(route.storage, read)

    def _read(self, storage: DataStorage, route: Route, key: Key) -> tuple[Any, Record | tuple[Any]]:
        """Return the value of a result, and what a cache keeps of it."""
        if isinstance(storage, RecordStorage):
            record = storage.get(key)
            return self.pipeline(route.storage).decode(record), record
        value = _foreign_result(storage, key)
        return value, (value,)

    def retrieve_error(self, route: Route, key: Key, name: str = "") -> RemoteTaskError:
        """Return a stored error.

        Raises:
            NotFoundError, CorruptError, UnreachableError
            UnsupportedError: the storage is a plain ``DataStorage``, which has no way to read errors back.
        """
        record = self._call(route.storage, lambda storage: as_records(storage).get(key, ERROR, name))
        return self.pipeline(route.storage).decode_error(record)

    def delete(self, route: Route, key: Key) -> bool:
        """Delete everything stored under a key; tell whether there was anything."""
        refuse_readonly(route, key)
        ref = Ref(RESULT, key)

        def delete(storage: DataStorage) -> bool:
            if isinstance(storage, RecordStorage):
                return storage.delete_task(key) > 0
            method = getattr(storage, "delete", None)
            if method is None:
                raise UnsupportedError(f"storage {route.storage.name!r} can't delete: it defines no delete()")
            try:
                return method(key.flow_name, key.task_name, key.task_id) is not False
            except storage.not_found_errors:
                return False

        try:
            return self._call(route.storage, delete)
        finally:
            self.caches.drop(route.storage.name, ref)

    def pipeline(self, entry: StorageEntry) -> Pipeline:
        """Return what encodes and decodes the values of a storage, without connecting to it."""
        return self._registry.pipeline(entry.name)

    def put_value(self, entry: StorageEntry, ref: Ref, value: object, facts: Mapping[str, Any]) -> None:
        """Store a value in a record of its own, with the retries that the storage's policy allows."""
        record = functools.cache(
            lambda storage: self.pipeline(entry).encode(ref, value, {"stored_at": storage.now(), **facts})
        )
        self.write(entry, lambda storage: storage.put(record(storage)))

    def write(self, entry: StorageEntry, operation: Callable[[RecordStorage], T], retry: bool = True) -> T:
        """Write to a storage that keeps records, again if it can't be reached and its policy allows it.

        Args:
            retry: whether the policy's retries may be used.
        """
        return self._write(entry, lambda storage: operation(as_records(storage)), retry)

    def read(self, entry: StorageEntry, operation: Callable[[RecordStorage], T]) -> T:
        """Read from a storage that keeps records."""
        return self._call(entry, lambda storage: operation(as_records(storage)))

    def records(self, entry: StorageEntry) -> RecordStorage:
        """Return a storage that keeps records, connected.

        Raises:
            UnsupportedError: it is a plain ``DataStorage``.
        """
        return as_records(self._registry.get(entry.name))

    def _put(self, entry: StorageEntry, storage: RecordStorage, record: Record) -> None:
        if entry.on_conflict == "replace":
            storage.put(record)
            return
        try:
            storage.put(record, if_revision=0)
        except ConflictError as exc:
            # The same result stored once more is a redelivered task, not a conflict.
            if entry.on_conflict == "error" and not (exc.current and storage.pipeline.same(exc.current, record)):
                raise ConflictError(
                    f"another result is stored under {record.key} already, and on_conflict is 'error'", exc.current
                ) from None

    def _write(self, entry: StorageEntry, write: Callable[[DataStorage], T], retry: bool = True) -> T:
        try:
            return self._call(entry, write)
        except UnreachableError as exc:
            if entry.on_store_error != "retry" or not retry:
                raise
            log.warning("storage %r: %s; trying again", entry.name, exc)
        return _retried(lambda: self._call(entry, write))

    def _call(self, entry: StorageEntry, operation: Callable[[DataStorage], T]) -> T:
        storage = self._registry.get(entry.name)
        try:
            return operation(storage)
        except StorageError as exc:
            exc.storage = entry.name
            raise
        except FlowstoreError:
            raise
        except Exception as exc:
            if isinstance(storage, RecordStorage):
                raise
            error = StorageError(f"storage {entry.name!r} failed: {type(exc).__name__}: {exc}")
            error.storage = entry.name
            raise error from exc


def as_records(storage: DataStorage) -> RecordStorage:
    """Return the storage if it keeps records.

    Raises:
        UnsupportedError: it is a plain ``DataStorage``.
    """
    if not isinstance(storage, RecordStorage):
        raise UnsupportedError(
            f"{type(storage).__name__} only stores and retrieves results; "
            "errors that can be read back, listings, runs and state need a RecordStorage"
        )
    return storage


def times(storage: RecordStorage, route: Route) -> dict[str, float]:
    """Return the headers that tell when a record is stored and when it expires, by the storage's clock."""
    now = storage.now()
    return {"stored_at": now} if route.expires_in is None else {"stored_at": now, "expires_at": now + route.expires_in}


def _refuse_expiry(storage: DataStorage, route: Route) -> None:
    if route.expires_in is not None:
        name = type(storage).__name__
        raise UnsupportedError(f"{name} keeps results for ever: only a RecordStorage lets them expire")


def _retried(call: Callable[[], T]) -> T:
    import tenacity  # on the first failure only

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(UnreachableError),
        stop=tenacity.stop_after_attempt(RETRY_ATTEMPTS - 1),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=2),
        reraise=True,
    )
    return retrying(call)


def refuse_readonly(route: Route, key: Key) -> None:
    """Refuse to change anything of a task with ``storage_readonly``."""
    if route.readonly:
        raise UnsupportedError(f"task {key.task_name!r} has storage_readonly: nothing of it may be written or deleted")


def _foreign_result(storage: DataStorage, key: Key) -> Any:
    try:
        return storage.retrieve(key.flow_name, key.task_name, key.task_id)
    except storage.not_found_errors as exc:
        raise NotFoundError(f"no result {key} is stored") from exc
