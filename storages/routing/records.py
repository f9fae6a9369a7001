"""Records in their homes, and large payloads there or elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from flowstore.errors import NotFoundError
from flowstore.record import Key, Page, Query, Record, Ref
from flowstore.storage import PART, Content, RecordStorage, Source

from .children import Children
from .listing import RoutedListing
from .rules import PAYLOAD, Rules

_OWNER: Final = "of"

T = TypeVar("T")
U = TypeVar("U")


class RoutedRecords(RecordStorage):
    """What an adapter implements, done by each record's home.

    A payload that is kept elsewhere is a blob of another storage, to which its record points. It is written before the
    record and deleted after nothing points to it: readers get the payload of the revision that they read, and only
    ``remove_orphans`` finds what a killed writer leaves.
    """

    _rules: Rules
    _children: Children

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        return self._children.get(self._rules.home(ref), ref, payload)

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        return self._spread(refs, self._rules.home, self._children.get_many)

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return self._children.put(self._rules.home(record.ref), record, if_revision, now)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        return self._spread(records, self._home, lambda name, some: self._children.put_many(name, some, now))

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        return self._spread(records, self._home, lambda name, some: self._children.add_many(name, some, now))

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        return self._children.delete(self._rules.home(ref), ref, if_revision)

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        homes: dict[str, list[Ref]] = defaultdict(list)
        for ref in refs:
            homes[self._rules.home(ref)].append(ref)
        return sum(self._children.delete_many(name, some) for name, some in homes.items())

    def _delete_seen(self, records: Sequence[Record]) -> int:
        homes: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            homes[self._home(record)].append(record)
        return sum(self._children.delete_seen(name, some) for name, some in homes.items())

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = RoutedListing(self._rules, self._children).page(query, cursor, limit)
        if not payload:
            return page
        records, damaged = self._read_each([one.ref for one in page.records])
        return Page(records, page.cursor, [*page.damaged, *damaged])

    def _count(self, query: Query) -> int:
        return RoutedListing(self._rules, self._children).count(query)

    # Large payloads

    def _is_large(self, record: Record) -> bool:
        away = self._rules.away(record.ref, lambda size: len(record.payload) >= size)
        home = self._home(record)
        return (away is not None and away != home) or super()._is_large(record) or self._children.is_large(home, record)

    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        away = self._rules.away(ref, lambda size: len(source.peek(size)) >= size)
        storage = self._children.storage(away or self._rules.home(ref))
        owner = [ref.kind, ref.key.flow_name, ref.key.task_name, ref.key.task_id, ref.name]
        storage.store_blob(_place(generation), "", source, kind=PAYLOAD, facts={_OWNER: owner, "stored_at": self.now()})
        return 1

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        for name in self._content_places(ref):
            try:
                blob = self._children.storage(name).retrieve_blob(_place(generation), "", kind=PAYLOAD)
            except NotFoundError:
                continue
            with blob:
                while part := blob.read(PART):
                    yield part
            return
        raise NotFoundError(f"the payload of {ref} is missing in all storages")

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        for name in self._content_places(ref):
            if self._children.storage(name).delete_blob(_place(generation), "", kind=PAYLOAD):
                return

    def _contents(self) -> Iterator[Content]:
        for name in self._children.names:
            storage = self._children.storage(name)
            for blob in self._children.scan(name, Query(kinds=(PAYLOAD,))):
                kind, *key, owner = blob.headers[_OWNER]
                yield Content(
                    blob.key.task_id,
                    blob.stored_at,
                    partial(self._get, Ref(kind, Key(*key), owner), False),
                    partial(_delete, storage, blob.key),
                )

    def _content_places(self, ref: Ref) -> list[str]:
        """Return the storages that may have a payload, likely ones first."""
        return list(dict.fromkeys([*self._rules.places(ref), *self._children.names]))

    def _home(self, record: Record) -> str:
        return self._rules.home(record.ref)

    def _spread(
        self, items: Sequence[T], home: Callable[[T], str], operation: Callable[[str, Sequence[T]], list[U]]
    ) -> list[U]:
        """Run an operation once per storage; return the results in order."""
        homes: dict[str, list[int]] = defaultdict(list)
        for at, item in enumerate(items):
            homes[home(item)].append(at)
        answers: dict[int, U] = {}
        for name, places in homes.items():
            answers.update(zip(places, operation(name, [items[at] for at in places]), strict=True))
        return [answers[at] for at in range(len(items))]


def _place(generation: str) -> Key:
    # Not the record's key: so listings by flow, run or task don't meet payloads.
    return Key("", "", generation)


def _delete(storage: RecordStorage, key: Key) -> None:
    storage.delete_blob(key, "", kind=PAYLOAD)
