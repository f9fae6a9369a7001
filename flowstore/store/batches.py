"""Many results in one call, in a few round trips for each storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from flowstore.config import StorageEntry
from flowstore.errors import ConflictError, NotFoundError
from flowstore.record import ERROR, RESULT, Key, Record, Ref
from flowstore.record.failure import RemoteTaskError
from flowstore.storage import RecordStorage
from flowstore.store.base import RAISE, StoreBase
from flowstore.store.outcomes import refuse_readonly, times
from flowstore.store.output_schema import check_result
from flowstore.store.routing import Route

KeyLike = Key | tuple[str, str, str]
"""A key, or its flow name, task name and task id."""

_MISSING: Final = object()


class _Item(NamedTuple):
    """One key of a batch: its position, its route, and the result to store."""

    position: int
    route: Route
    ref: Ref
    value: object = None

    @property
    def key(self) -> Key:
        return self.ref.key


class BatchesMixin(StoreBase):
    """Store, retrieve and delete many results in one call."""

    def store_many(self, items: Mapping[KeyLike, object] | Iterable[tuple[KeyLike, object]]) -> list[str | None]:
        """Store many results in a few round trips for each storage.

        Args:
            items: keys and results. A key is a ``Key``, or its flow name, task name and task id.

        Returns:
            The ids of the records, in the order of the items. See ``store``.

        Raises:
            ValueError: two items have the same key.
            UnknownStorageError, UnsupportedError, SerializationError, ResultSchemaError, ResultTooLargeError: one of
                the results can't be stored. None has been.
            ConflictError: other results are stored under some keys, and ``on_conflict`` is ``error``. The rest is
                stored.
            StorageError: a storage failed. Some results may be stored; storing all of them again does no harm.
        """
        pairs = items.items() if isinstance(items, Mapping) else items
        batch = [self._item(index, key, value) for index, (key, value) in enumerate(pairs)]
        if len({item.ref.address for item in batch}) < len(batch):
            raise ValueError("two of the results have the same key: it is unknown which of them should be stored")
        for item in batch:
            refuse_readonly(item.route, item.key)
            check_result(item.route.output_schema, item.value, item.key)
        groups = _by_storage(batch)
        # All of them are encoded and checked before anything is written to any storage.
        encoded = [self._encode_batch(entry, group) for entry, group in groups]
        ids: list[str | None] = [None] * len(batch)
        for (entry, group), records in zip(groups, encoded, strict=True):
            stored = self._store_each(group) if records is None else self._store_records(entry, records)
            for item, stored_id in zip(group, stored, strict=True):
                ids[item.position] = stored_id
        return ids

    def retrieve_many(self, keys: Iterable[KeyLike], default: Any = RAISE) -> list[Any]:
        """Return many results, in the order of their keys.

        Takes a few round trips for each storage.

        Args:
            keys: each is a ``Key``, or its flow name, task name and task id.
            default: takes the place of each result that is not stored or has expired.

        Raises:
            NotFoundError: a result is not stored or has expired, and no default is given.
            CorruptError, UnreachableError, UnknownStorageError: as ``retrieve``.
        """
        batch = [self._item(index, key) for index, key in enumerate(keys)]
        found: list[Any] = [_MISSING] * len(batch)
        for entry, group in _by_storage(batch):
            for item, value in zip(group, self._retrieve_batch(entry, group), strict=True):
                found[item.position] = value
        missing = [item.key for item in batch if found[item.position] is _MISSING]
        if missing and default is RAISE:
            more = f", nor under {len(missing) - 1} of the other keys" if len(missing) > 1 else ""
            raise NotFoundError(f"no result is stored under {missing[0]}{more}")
        return [default if value is _MISSING else value for value in found]

    def delete_many(self, keys: Iterable[KeyLike]) -> int:
        """Delete everything under many keys; return the number of records.

        Raises:
            ReadonlyError: a task has ``storage_readonly``. Nothing was deleted.
            UnknownStorageError, StorageError: as ``delete``.
        """
        batch = [self._item(index, key) for index, key in enumerate(keys)]
        for item in batch:
            refuse_readonly(item.route, item.key)
        return sum(self._delete_batch(entry, group) for entry, group in _by_storage(batch))

    def _retrieve_errors(self, keys: Iterable[KeyLike]) -> list[RemoteTaskError | None]:
        """Return the errors that ended tasks, in the order of their keys."""
        batch = [self._item(index, key) for index, key in enumerate(keys)]
        errors: list[RemoteTaskError | None] = [None] * len(batch)
        for entry, group in _by_storage(batch):
            found = self._read_records(entry, [Ref(ERROR, item.key) for item in group])
            decode = self._operations.pipeline(entry).decode_error
            for item, record in zip(group, found, strict=True):
                errors[item.position] = None if record is None else decode(record)
        return errors

    # All items of a batch below have the same storage.

    def _encode_batch(self, entry: StorageEntry, batch: Sequence[_Item]) -> list[Record] | None:
        """Return the records to write, or None for a storage without records."""
        if not entry.keeps_records:
            return None
        encode = self._operations.pipeline(entry).encode

        def encoded(storage: RecordStorage) -> list[Record]:
            # Items of one task share one route, and so the time at which they are stored.
            routes = {id(item.route): item.route for item in batch}
            facts = {known: {"state": "SUCCESS", **times(storage, route)} for known, route in routes.items()}
            records = [encode(item.ref, item.value, facts[id(item.route)]) for item in batch]
            for record in records:
                storage.check_size(record)
            return records

        return self._operations.write(entry, encoded)

    def _store_each(self, batch: Sequence[_Item]) -> list[str | None]:
        return [self._outcomes.store_result(item.route, item.key, item.value, {}) for item in batch]

    def _store_records(self, entry: StorageEntry, records: Sequence[Record]) -> list[str]:
        try:
            if entry.on_conflict == "replace":
                self._operations.write(entry, lambda storage: storage.put_many(records))
            else:
                self._add_records(entry, records)
        finally:
            for record in records:
                self._outcomes.caches.drop(entry.name, record.ref)
        return [record.ref.address.hex() for record in records]

    def _add_records(self, entry: StorageEntry, records: Sequence[Record]) -> None:
        """Write records whose keys are free; raise ConflictError if set so."""
        standing = self._operations.write(entry, lambda storage: storage.add_many(records))
        if entry.on_conflict == "keep":
            return
        same = self._operations.pipeline(entry).same
        others = [
            current
            for record, current in zip(records, standing, strict=True)
            if current is not None and not same(record, current)
        ]
        if others:
            error = ConflictError(
                f"another result is stored already under {len(others)} of {len(records)} keys, such as "
                f"{others[0].key}, and on_conflict is 'error'; the rest is stored",
                others[0],
            )
            error.storage = entry.name
            raise error

    def _retrieve_batch(self, entry: StorageEntry, batch: Sequence[_Item]) -> list[Any]:
        """Return the results, and ``_MISSING`` for each that is not stored."""
        if not entry.keeps_records:
            return [self._retrieve_or_missing(item) for item in batch]
        refs = [item.ref for item in batch]
        records = self._outcomes.caches.get_many(entry.name, refs, partial(self._read_records, entry))
        decode = self._operations.pipeline(entry).decode
        found = [records.get(item.ref.address) for item in batch]
        return [_MISSING if record is None else decode(record) for record in found]

    def _read_records(self, entry: StorageEntry, refs: Sequence[Ref]) -> list[Record | None]:
        return self._operations.read(entry, lambda storage: storage.get_many(refs))

    def _retrieve_or_missing(self, item: _Item) -> Any:
        try:
            return self._outcomes.retrieve(item.route, item.key)
        except NotFoundError:
            return _MISSING

    def _delete_batch(self, entry: StorageEntry, batch: Sequence[_Item]) -> int:
        if not entry.keeps_records:
            return sum(self._outcomes.delete(item.route, item.key) for item in batch)
        try:
            return self._operations.once(entry, lambda storage: storage.delete_tasks(item.key for item in batch))
        finally:
            for item in batch:
                self._outcomes.caches.drop(entry.name, item.ref)

    def _item(self, position: int, key: KeyLike, value: object = None) -> _Item:
        parts = (key.flow_name, key.task_name, key.task_id) if isinstance(key, Key) else key
        route, stored_key = self._routed(*parts)
        return _Item(position, route, Ref(RESULT, stored_key), value)


def _by_storage(batch: Sequence[_Item]) -> list[tuple[StorageEntry, list[_Item]]]:
    groups: dict[str, tuple[StorageEntry, list[_Item]]] = {}
    for item in batch:
        groups.setdefault(item.route.storage.name, (item.route.storage, []))[1].append(item)
    return list(groups.values())
