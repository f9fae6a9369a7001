"""The storages that a RoutingStorage works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from flowstore.record import Page, Query, Record, Ref, pages
from flowstore.storage import NestedStorage, RecordStorage, report_damage

T = TypeVar("T")

_PAGE: Final = 200


class Children:
    """Storages by name, with the operations that adapters implement."""

    def __init__(self, children: Mapping[str, NestedStorage]) -> None:
        self._children = dict(children)

    @property
    def names(self) -> list[str]:
        return list(self._children)

    def storage(self, name: str) -> RecordStorage:
        """Return one of the storages itself, connected."""
        return self._children[name].get()

    def is_large(self, name: str, record: Record) -> bool:
        """Return whether a storage would keep the payload outside the record."""
        return self.storage(name)._is_large(record)

    def get(self, name: str, ref: Ref, payload: bool) -> Record | None:
        return self._call(name, lambda storage: storage._get(ref, payload))

    def get_many(self, name: str, refs: Sequence[Ref]) -> list[Record | None]:
        return self._call(name, lambda storage: storage._get_many(refs))

    def put(self, name: str, record: Record, if_revision: int | None, now: float) -> int:
        return self._call(name, lambda storage: storage._put(record, if_revision, now))

    def put_many(self, name: str, records: Sequence[Record], now: float) -> list[int]:
        return self._call(name, lambda storage: storage._put_many(records, now))

    def add_many(self, name: str, records: Sequence[Record], now: float) -> list[bool]:
        return self._call(name, lambda storage: storage._add_many(records, now))

    def delete(self, name: str, ref: Ref, if_revision: int | None) -> bool:
        return self._call(name, lambda storage: storage._delete(ref, if_revision))

    def delete_many(self, name: str, refs: Sequence[Ref]) -> int:
        return self._call(name, lambda storage: storage._delete_many(refs))

    def delete_seen(self, name: str, records: Sequence[Record]) -> int:
        return self._call(name, lambda storage: storage._delete_seen(records))

    def page(self, name: str, query: Query, cursor: str | None, limit: int) -> Page:
        """Return a page of records without payloads."""
        return self._call(name, lambda storage: storage._scan(query, cursor, limit, False))

    def count(self, name: str, query: Query) -> int:
        return self._call(name, lambda storage: storage._count(query))

    def scan(self, name: str, query: Query) -> Iterator[Record]:
        """Iterate over the selected records of a storage, without payloads."""
        for page in pages(lambda cursor: self.page(name, query, cursor, _PAGE)):
            for one in page.damaged:
                report_damage(one.error)
            yield from page.records

    def close(self) -> None:
        """Disconnect the storages that no other storage uses."""
        for child in self._children.values():
            child.close()

    def _call(self, name: str, operation: Callable[[RecordStorage], T]) -> T:
        storage = self.storage(name)
        try:
            return operation(storage)
        except Exception as exc:
            storage._raise(exc)
