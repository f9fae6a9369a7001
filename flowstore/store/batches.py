"""Many results in one call: a few round trips for each storage, and the policies of each result's own route."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from flowstore.config import StorageEntry
from flowstore.duration import Duration
from flowstore.errors import ConflictError, NotFoundError
from flowstore.record import ERROR, RESULT, Key, Record, Ref
from flowstore.record.failure import RemoteTaskError
from flowstore.storage import RecordStorage
from flowstore.store.lookup import Lookup
from flowstore.store.operations import Operations, refuse_readonly, times
from flowstore.store.routing import Route, Router
from flowstore.store.schema import check_result

KeyLike = Key | tuple[str, str, str]
"""A key, or its flow name, task name and task id."""


class _Item(NamedTuple):
    """A key of a batch: its place in it, where the configuration sends it, and the result to store."""

    place: int
    route: Route
    ref: Ref
    value: object = None

    @property
    def key(self) -> Key:
        return self.ref.key


class Batches:
    """Store, retrieve and delete many results. Safe in threads."""

    def __init__(self, router: Router, operations: Operations) -> None:
        self._router = router
        self._operations = operations
        self._lookup = Lookup(operations)

    def store(self, items: Iterable[tuple[KeyLike, object]]) -> list[str | None]:
        """Store results; see ``FlowStore.store_many``."""
        located = [self._located(index, key, value) for index, (key, value) in enumerate(items)]
        if len({item.ref.address for item in located}) < len(located):
            raise ValueError("two of the results have the same key: which one should stay is not known")
        for item in located:
            refuse_readonly(item.route, item.key)
            check_result(item.route.output_schema, item.value, item.key)
        groups = _by_storage(located)
        # Encoded and checked for all storages before anything is written to one of them.
        prepared = [self._prepared(entry, some) for entry, some in groups]
        ids: list[str | None] = [None] * len(located)
        for (entry, some), records in zip(groups, prepared, strict=True):
            stored = self._store_each(some) if records is None else self._store_records(entry, records)
            for item, stored_id in zip(some, stored, strict=True):
                ids[item.place] = stored_id
        return ids

    def _prepared(self, entry: StorageEntry, items: Sequence[_Item]) -> list[Record] | None:
        """Return the records to write to a storage, or ``None`` for one that keeps no records."""
        if not entry.keeps_records:
            return None
        encode = self._operations.pipeline(entry).encode

        def encoded(storage: RecordStorage) -> list[Record]:
            # Items of one task have one route: all of them are stored at the same time.
            routes = {id(item.route): item.route for item in items}
            facts = {known: {"state": "SUCCESS", **times(storage, route)} for known, route in routes.items()}
            records = [encode(item.ref, item.value, facts[id(item.route)]) for item in items]
            for record in records:
                storage.check_size(record)
            return records

        return self._operations.write(entry, encoded)

    def _store_each(self, items: Sequence[_Item]) -> list[str | None]:
        return [self._operations.store_result(item.route, item.key, item.value, {}) for item in items]

    def _store_records(self, entry: StorageEntry, records: Sequence[Record]) -> list[str]:
        try:
            if entry.on_conflict == "replace":
                self._operations.write(entry, lambda storage: storage.put_many(records))
            else:
                self._add(entry, records)
        finally:
            for record in records:
                self._operations.caches.drop(entry.name, record.ref)
        return [record.ref.address.hex() for record in records]

    def _add(self, entry: StorageEntry, records: Sequence[Record]) -> None:
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

    def retrieve(self, keys: Iterable[KeyLike]) -> list[tuple[bool, Any]]:
        """Return of each key whether there is a result, and the result."""
        located = [self._located(index, key) for index, key in enumerate(keys)]
        found: list[tuple[bool, Any]] = [(False, None)] * len(located)
        for entry, items in _by_storage(located):
            if entry.keeps_records:
                records = self._lookup.records(entry, [item.ref for item in items])
                decode = self._operations.pipeline(entry).decode
                for item in items:
                    record = records.get(item.ref.address)
                    if record is not None:
                        found[item.place] = (True, decode(record))
            else:
                for item in items:
                    found[item.place] = self._retrieve_one(item)
        return found

    def retrieve_errors(self, keys: Iterable[KeyLike]) -> list[RemoteTaskError | None]:
        """Return the errors that ended tasks, in the order of their keys; ``None`` where none is stored."""
        located = [self._located(index, key) for index, key in enumerate(keys)]
        errors: list[RemoteTaskError | None] = [None] * len(located)
        for entry, items in _by_storage(located):
            found = self._operations.read(entry, _reading([Ref(ERROR, item.key) for item in items]))
            decode = self._operations.pipeline(entry).decode_error
            for item, record in zip(items, found, strict=True):
                errors[item.place] = None if record is None else decode(record)
        return errors

    def _retrieve_one(self, item: _Item) -> tuple[bool, Any]:
        try:
            return True, self._operations.retrieve(item.route, item.key)
        except NotFoundError:
            return False, None

    def delete(self, keys: Iterable[KeyLike]) -> int:
        """Delete everything under several keys; see ``FlowStore.delete_many``."""
        located = [self._located(index, key) for index, key in enumerate(keys)]
        for item in located:
            refuse_readonly(item.route, item.key)
        return sum(self._delete(entry, items) for entry, items in _by_storage(located))

    def _delete(self, entry: StorageEntry, items: Sequence[_Item]) -> int:
        if not entry.keeps_records:
            return sum(self._operations.delete(item.route, item.key) for item in items)
        try:
            return self._operations.once(entry, lambda storage: storage.delete_tasks(item.key for item in items))
        finally:
            for item in items:
                self._operations.caches.drop(entry.name, item.ref)

    def get_or_store(self, route: Route, key: Key, default: Any) -> Any:
        """Return a result or store a default; see ``FlowStore.get_or_store``."""
        refuse_readonly(route, key)
        ref = Ref(RESULT, key)

        def checked() -> Any:
            value = default() if callable(default) else default
            check_result(route.output_schema, value, key)
            return value

        def get_or_store(storage: RecordStorage) -> Any:
            facts = {"state": "SUCCESS", **times(storage, route)}
            return storage.get_or_store(key, checked, facts=facts)

        try:
            return self._operations.write(route.storage, get_or_store)
        finally:
            self._operations.caches.drop(route.storage.name, ref)

    def claim(self, route: Route, key: Key, name: str, owner: str | None, expires_in: Duration | None) -> bool:
        """Claim something; see ``FlowStore.claim``."""
        # The same in each try: a claim whose answer was lost is the caller's own.
        token = os.urandom(8).hex()
        return self._operations.write(
            route.storage,
            lambda storage: storage.claim(key, name, owner=owner, expires_in=expires_in, token=token),
        )

    def _located(self, index: int, key: KeyLike, value: object = None) -> _Item:
        flow_name, task_name, task_id = (key.flow_name, key.task_name, key.task_id) if isinstance(key, Key) else key
        route = self._router.required(flow_name, task_name)
        return _Item(index, route, Ref(RESULT, Key(flow_name, route.task_name, task_id)), value)


def _reading(refs: Sequence[Ref]) -> Callable[[RecordStorage], list[Record | None]]:
    return lambda storage: storage.get_many(refs)


def _by_storage(items: Sequence[_Item]) -> list[tuple[StorageEntry, list[_Item]]]:
    groups: dict[str, tuple[StorageEntry, list[_Item]]] = {}
    for item in items:
        groups.setdefault(item.route.storage.name, (item.route.storage, []))[1].append(item)
    return list(groups.values())
