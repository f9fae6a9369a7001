"""Results and errors of tasks, by the policies of their routes: conflicts, schema, expiry, cache."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from flowstore.config import Configuration, StorageEntry
from flowstore.errors import ConflictError, NotFoundError, ReadonlyError, UnsupportedError
from flowstore.record import ERROR, RESULT, Key, Record, Ref
from flowstore.record.failure import RemoteTaskError
from flowstore.storage import DataStorage, ExcInfo, RecordStorage, keeps_errors
from flowstore.store.cache import Caches
from flowstore.store.operations import Operations
from flowstore.store.output_schema import check_result
from flowstore.store.routing import Route

log = logging.getLogger(__name__)


class Outcomes:
    """Store, retrieve and delete what tasks returned or raised. Safe in threads.

    Attributes:
        caches: what was read, for the storages that have a cache.
    """

    def __init__(self, configuration: Configuration, operations: Operations) -> None:
        self._operations = operations
        self.caches = Caches(configuration, operations.now)

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
            return self._operations.run(entry, write)
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

        return self._operations.run(entry, write, None if retry else self._operations.patience(entry, retry))

    def retrieve(self, route: Route, key: Key) -> Any:
        """Return the result stored under a key; every call returns a new object.

        Raises:
            NotFoundError, CorruptError, UnreachableError
        """
        entry = route.storage
        if entry.cache is None:
            return self._operations.run(entry, partial(_read, key))[0]
        ref = Ref(RESULT, key)
        kept = self.caches.get(entry.name, ref)
        if kept is not None:
            return self._operations.pipeline(entry).decode(kept) if isinstance(kept, Record) else copy.deepcopy(kept[0])
        keep = self.caches.begin_read(entry.name)

        def read(storage: DataStorage) -> Any:
            value, found = _read(key, storage)
            keep(ref, found)
            return value

        return self._operations.run(entry, read)

    def retrieve_error(self, route: Route, key: Key, name: str = "") -> RemoteTaskError:
        """Return a stored error.

        Raises:
            NotFoundError, CorruptError, UnreachableError
            UnsupportedError: the storage is a plain ``DataStorage``, which has no way to read errors back.
        """
        record = self._operations.read(route.storage, lambda storage: storage.get(key, ERROR, name))
        return self._operations.pipeline(route.storage).decode_error(record)

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
            return self._operations.run(route.storage, delete, self._operations.patience(route.storage, False))
        finally:
            self.caches.drop(route.storage.name, ref)


def refuse_readonly(route: Route, key: Key) -> None:
    """Refuse to change anything of a task with ``storage_readonly``.

    Raises:
        ReadonlyError: it has that.
    """
    if route.readonly:
        raise ReadonlyError(f"task {key.task_name!r} has storage_readonly: nothing of it may be written or deleted")


def times(storage: RecordStorage, route: Route) -> dict[str, float]:
    """Return the headers for when a record is stored and expires, by the storage's clock."""
    return _times_at(storage._time(), route)


def _times_at(now: float, route: Route) -> dict[str, float]:
    return {"stored_at": now} if route.expires_in is None else {"stored_at": now, "expires_at": now + route.expires_in}


def _refuse_expiry(storage: DataStorage, route: Route) -> None:
    if route.expires_in is not None:
        name = type(storage).__name__
        raise UnsupportedError(f"{name} keeps results for ever: only a RecordStorage lets them expire")


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
