"""Storing and retrieving by the policies of a route: retry, conflict, schema, cache."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from flowstore.config import Configuration, StorageEntry
from flowstore.encoding.pipeline import Pipeline
from flowstore.errors import (
    ConflictError,
    FlowstoreError,
    NotFoundError,
    ReadonlyError,
    StorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.interrupts import is_interrupt
from flowstore.record import ERROR, RESULT, Key, Page, Query, Record, Ref, pages
from flowstore.record.failure import RemoteTaskError
from flowstore.storage import DataStorage, RecordStorage, keeps_errors
from flowstore.store.cache import Caches
from flowstore.store.patience import Patience
from flowstore.store.registry import Registry
from flowstore.store.routing import Route
from flowstore.store.schema import check_result
from flowstore.texts import MAX_TEXT, summarize

log = logging.getLogger(__name__)

_PAGE = 500

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
            StorageError: it could not be stored within the patience of the storage.
        """
        if route.readonly:
            refuse_readonly(route, key)
        if route.output_schema is not None:
            check_result(route.output_schema, result, key)
        entry, ref = route.storage, Ref(RESULT, key)
        record: Record | None = None

        def write(storage: DataStorage) -> str | None:
            nonlocal record
            if not isinstance(storage, RecordStorage):
                _refuse_expiry(storage, route)
                stored = storage.store(key.flow_name, key.task_name, key.task_id, result)
                return None if stored is None else str(stored)
            now = storage._time()
            if record is None:
                # Once, even if the write is tried again: the record's token shows that it is the same write.
                record = storage.pipeline.encode(ref, result, {**facts, **_times_at(now, route)})
            if entry.on_conflict != "replace":
                _add(entry, storage, record, now)
            elif (later := storage.put_latest(record, now=now)) is not None:
                _log_overtaken(record, later)
            return ref.address.hex()

        try:
            return self.run(entry, write)
        finally:
            if entry.cache is not None:
                self.caches.drop(entry.name, ref)

    def store_error(
        self, route: Route, key: Key, exc: BaseException, facts: Mapping[str, Any], name: str = "", retry: bool = True
    ) -> str | None:
        """Store an error; return the record's id.

        Args:
            facts: headers, and in ``node_args`` the task's arguments.
            name: ``""`` for the error that ended the task, else the number of the attempt that failed.
            retry: whether it is tried again as the policy allows.
        """
        refuse_readonly(route, key)
        entry, ref = route.storage, Ref(ERROR, key, name)
        record: Record | None = None

        def write(storage: DataStorage) -> str | None:
            nonlocal record
            if isinstance(storage, RecordStorage):
                now = storage._time()
                if record is None:  # as in ``store_result``
                    record = storage.pipeline.encode_error(ref, exc, {**facts, **_times_at(now, route)})
                if (later := storage.put_latest(record, now=now)) is not None:
                    _log_overtaken(record, later)
                return ref.address.hex()
            if not keeps_errors(storage):
                raise UnsupportedError(f"storage {entry.name!r} keeps no errors: it defines no store_error()")
            _refuse_expiry(storage, route)
            exc_info: ExcInfo = (type(exc), exc, exc.__traceback__)
            stored = storage.store_error(facts.get("node_args"), key.flow_name, key.task_name, key.task_id, exc_info)
            return None if stored is None else str(stored)

        return self.run(entry, write, None if retry else self.patience(entry, retry))

    def retrieve(self, route: Route, key: Key) -> Any:
        """Return the result stored under a key; every call returns a new object.

        Raises:
            NotFoundError, CorruptError, UnreachableError
        """
        entry = route.storage
        if entry.cache is None:
            return self.run(entry, partial(_read, key))[0]
        ref = Ref(RESULT, key)
        kept = self.caches.get(entry.name, ref)
        if kept is not None:
            return self.pipeline(entry).decode(kept) if isinstance(kept, Record) else copy.deepcopy(kept[0])
        keep = self.caches.keeper(entry.name)

        def read(storage: DataStorage) -> Any:
            value, found = _read(key, storage)
            keep(ref, found)
            return value

        return self.run(entry, read)

    def retrieve_error(self, route: Route, key: Key, name: str = "") -> RemoteTaskError:
        """Return a stored error.

        Raises:
            NotFoundError, CorruptError, UnreachableError
            UnsupportedError: the storage is a plain ``DataStorage``, which has no way to read errors back.
        """
        record = self.read(route.storage, lambda storage: storage.get(key, ERROR, name))
        return self.pipeline(route.storage).decode_error(record)

    def delete(self, route: Route, key: Key) -> bool:
        """Delete everything stored under a key; return whether anything was."""
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
            return self.run(route.storage, delete, self.patience(route.storage, False))
        finally:
            self.caches.drop(route.storage.name, ref)

    def pipeline(self, entry: StorageEntry) -> Pipeline:
        """Return the pipeline of a storage, without connecting to it."""
        return self._registry.pipeline(entry.name)

    def put_value(self, entry: StorageEntry, ref: Ref, value: object, facts: Mapping[str, Any]) -> None:
        """Store a value as a record, again within the storage's patience."""
        record = made_once(
            lambda storage: self.pipeline(entry).encode(ref, value, {"stored_at": storage._time(), **facts})
        )
        self.write(entry, lambda storage: storage.put(record(storage)))

    def patience(self, entry: StorageEntry, retry: bool = True) -> Patience:
        """Return the time for trying again, which all operations of one call share."""
        return Patience(entry.name, entry.patience if retry else 0)

    def write(
        self,
        entry: StorageEntry,
        operation: Callable[[RecordStorage], T],
        retry: bool = True,
        patience: Patience | None = None,
    ) -> T:
        """Write to a record storage, again within its patience while it can't be reached.

        Args:
            operation: recognizes itself, or does no harm, if it is done twice.
            retry: whether to try again at all.
            patience: the time for that, if several operations share it.
        """
        if not retry:
            patience = self.patience(entry, retry)
        return self.run(entry, lambda storage: operation(as_records(storage)), patience)

    def read(self, entry: StorageEntry, operation: Callable[[RecordStorage], T], patience: Patience | None = None) -> T:
        """Read from a record storage, again within its patience while it can't be reached.

        Args:
            operation: changes nothing.
            patience: the time for trying again, if several operations share it.
        """
        return self.run(entry, lambda storage: operation(as_records(storage)), patience)

    def once(self, entry: StorageEntry, operation: Callable[[RecordStorage], T]) -> T:
        """Run an operation on a record storage a single time, because its answer counts what it did."""
        return self.run(entry, lambda storage: operation(as_records(storage)), self.patience(entry, False))

    def listed(self, entry: StorageEntry, query: Query, *, payload: bool = True) -> Iterator[Record]:
        """Iterate over all records that a query selects; every page is one ``read``."""
        if query.live_at is None and query.expired_at is None:
            query = replace(query, live_at=self.read(entry, lambda storage: storage._time()))
        dated = query

        def page(cursor: str | None) -> Page:
            return self.read(entry, lambda storage: storage.scan(dated, limit=_PAGE, cursor=cursor, payload=payload))

        for each in pages(page):
            yield from each.records

    def records(self, entry: StorageEntry) -> RecordStorage:
        """Return a record storage, connected.

        Raises:
            UnsupportedError: it is a plain ``DataStorage``.
        """
        return as_records(self._registry.get(entry.name))

    def run(self, entry: StorageEntry, operation: Callable[[DataStorage], T], patience: Patience | None = None) -> T:
        """Run an operation on a storage, again while the storage can't be reached and there is time left.

        Args:
            operation: recognizes itself, or does no harm, if it is done twice.
            patience: the time for trying again; without it, what the storage's policy allows.

        Raises:
            StorageError: names the storage; also in place of whatever a plain ``DataStorage`` raised.
        """
        begun, storage = time.monotonic(), None
        try:
            storage = self._registry.get(entry.name)
            return operation(storage)
        except Exception as exc:
            error = _named(exc, entry.name, storage)
            if error is not exc:
                raise error from exc
            if not isinstance(exc, UnreachableError):
                raise
            patience = patience or self.patience(entry)
            deadline = patience.deadline_after(exc, begun)
        return patience.try_again(lambda: self.run(entry, operation, self.patience(entry, False)), begun, deadline)


def _named(exc: Exception, name: str, storage: DataStorage | None) -> Exception:
    """Return the error that callers get for an exception of an operation, with the storage's name in it."""
    if isinstance(exc, StorageError):
        exc.storage = name
    elif not (
        isinstance(exc, FlowstoreError) or storage is None or isinstance(storage, RecordStorage) or is_interrupt(exc)
    ):
        error = StorageError(f"storage {name!r} failed: {summarize(exc, MAX_TEXT)}")
        error.storage = name
        return error
    return exc


def made_once(make: Callable[[RecordStorage], T]) -> Callable[[RecordStorage], T]:
    """Return a function that makes something at its first call and returns it at every call."""
    made: list[T] = []

    def get(storage: RecordStorage) -> T:
        if not made:
            made.append(make(storage))
        return made[0]

    return get


def _add(entry: StorageEntry, storage: RecordStorage, record: Record, now: float) -> None:
    """Store a result only if none is stored, as ``on_conflict: keep`` and ``error`` say."""
    try:
        storage.put(record, if_revision=0, now=now)
    except ConflictError as exc:
        # The same result stored once more is a redelivered task, not a conflict.
        if entry.on_conflict == "error" and not (exc.current and storage.pipeline.same(exc.current, record)):
            raise ConflictError(
                f"another result is stored under {record.key} already, and on_conflict is 'error'", exc.current
            ) from None


def _log_overtaken(record: Record, later: Record) -> None:
    log.info(
        "%s is not stored: it is of attempt %s, begun at %.3f, and that of a later execution is there:"
        " attempt %s, begun at %.3f",
        record.ref,
        *(one.headers[name] for one in (record, later) for name in ("attempt", "started_at")),
    )


def as_records(storage: DataStorage) -> RecordStorage:
    """Return a storage if it is a record storage.

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
    """Return the headers for when a record is stored and expires, by the storage's clock."""
    return _times_at(storage._time(), route)


def _times_at(now: float, route: Route) -> dict[str, float]:
    return {"stored_at": now} if route.expires_in is None else {"stored_at": now, "expires_at": now + route.expires_in}


def _refuse_expiry(storage: DataStorage, route: Route) -> None:
    if route.expires_in is not None:
        name = type(storage).__name__
        raise UnsupportedError(f"{name} keeps results for ever: only a RecordStorage lets them expire")


def refuse_readonly(route: Route, key: Key) -> None:
    """Refuse to change anything of a task with ``storage_readonly``.

    Raises:
        ReadonlyError: it has that.
    """
    if route.readonly:
        raise ReadonlyError(f"task {key.task_name!r} has storage_readonly: nothing of it may be written or deleted")


def _read(key: Key, storage: DataStorage) -> tuple[Any, Record | tuple[Any]]:
    """Return the value of a result, and what a cache keeps of it."""
    if isinstance(storage, RecordStorage):
        record = storage.get(key)
        return storage.pipeline.decode(record), record
    try:
        value = storage.retrieve(key.flow_name, key.task_name, key.task_id)
    except storage.not_found_errors as exc:
        raise NotFoundError(f"no result {key} is stored") from exc
    return value, (value,)
