"""Running operations on storages: connected, tried again within the patience, with typed errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from flowstore.config import StorageEntry
from flowstore.encoding.pipeline import Pipeline
from flowstore.errors import FlowstoreError, StorageError, UnreachableError, UnsupportedError
from flowstore.interrupts import is_interrupt
from flowstore.record import Page, Query, Record, Ref, pages
from flowstore.storage import DataStorage, RecordStorage
from flowstore.store.patience import Patience
from flowstore.store.registry import Registry
from flowstore.texts import MAX_TEXT, summarize

_PAGE = 500

T = TypeVar("T")


class Operations:
    """Run operations on the storages of a registry. Safe in threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

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
        return self.write(entry, operation, retry=False)

    def listed(self, entry: StorageEntry, query: Query, *, payload: bool = True) -> Iterator[Record]:
        """Iterate over all records that a query selects; every page is one ``read``."""
        if query.live_at is None and query.expired_at is None:
            query = replace(query, live_at=self.read(entry, lambda storage: storage._time()))
        dated = query

        def page(cursor: str | None) -> Page:
            return self.read(entry, lambda storage: storage.scan(dated, limit=_PAGE, cursor=cursor, payload=payload))

        for each in pages(page):
            yield from each.records

    def now(self, name: str) -> float:
        """Return the time of a record storage."""
        return as_records(self._registry.get(name)).now()

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
