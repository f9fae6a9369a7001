"""Listing and counting over several storages, merged."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from flowstore.record import Damaged, Page, Query, Record, Ref
from flowstore.storages.shared.headers import bad_cursor

from .children import Children
from .rules import HIDDEN, Rules


@dataclass(slots=True)
class _Stream:
    """The listing of one storage, without payloads.

    Attributes:
        start: the cursor of the current page; None for the first one.
        page: the records of that page.
        next: the cursor of the page after it.
        taken: how many of the page were taken or left out.
        damaged: the records that can't be read.
    """

    name: str
    start: str | None
    page: list[Record] = field(default_factory=list)
    next: str | None = None
    taken: int = 0
    damaged: list[Damaged] = field(default_factory=list)


class RoutedListing:
    """List the records of each home, without other records there."""

    def __init__(self, rules: Rules, children: Children) -> None:
        self._rules = rules
        self._children = children

    def page(self, query: Query, cursor: str | None, limit: int) -> Page:
        """Return up to ``limit`` records without payloads, in order.

        Within a storage the order is the storage's. Records of different storages are ordered by ``stored_at``.
        """
        homes = self._rules.homes(query)
        positions = _positions(cursor, homes) if cursor is not None else dict.fromkeys(homes)
        streams = [_Stream(name, start) for name, start in positions.items()]
        for stream in streams:
            self._read(stream, query, limit)
        found: list[Record] = []
        while len(found) < limit:
            heads = [(stream, head) for stream in streams if (head := self._head(stream, query, limit)) is not None]
            if not heads:
                return Page(found, None, _damaged(streams))
            choose = max if query.descending else min
            stream, head = choose(heads, key=lambda each: each[1].stored_at)
            found.append(head)
            stream.taken += 1
        rest = {stream.name: self._position(stream, query) for stream in streams if self._has_more(stream)}
        return Page(found, _cursor(rest) if rest else None, _damaged(streams))

    def count(self, query: Query) -> int:
        """Count the selected records; with a single home, that storage counts."""
        homes = self._rules.homes(query)
        if len(homes) == 1:
            count = self._children.count(homes[0], query)
            if query.kinds is None:
                count -= self._children.count(homes[0], replace(query, kinds=HIDDEN))
            return count
        return sum(1 for _ in self.heads(query, homes))

    def heads(self, query: Query, homes: list[str]) -> Iterator[Record]:
        """Iterate over the selected records, without payloads."""
        for name in homes:
            yield from (record for record in self._children.scan(name, query) if self._belongs(name, record.ref))

    def _belongs(self, name: str, ref: Ref) -> bool:
        return ref.kind not in HIDDEN and self._rules.home(ref) == name

    def _read(self, stream: _Stream, query: Query, limit: int) -> None:
        page = self._children.page(stream.name, query, stream.start, limit)
        stream.page, stream.next, stream.taken = page.records, page.cursor, 0
        stream.damaged += (
            one for one in page.damaged if one.error.ref is None or self._belongs(stream.name, one.error.ref)
        )

    def _head(self, stream: _Stream, query: Query, limit: int) -> Record | None:
        """Return the next record of a stream that is at home there."""
        while True:
            while stream.taken < len(stream.page):
                record = stream.page[stream.taken]
                if self._belongs(stream.name, record.ref):
                    return record
                stream.taken += 1
            if stream.next is None:
                return None
            stream.start = stream.next
            self._read(stream, query, limit)

    def _has_more(self, stream: _Stream) -> bool:
        return stream.next is not None or stream.taken < len(stream.page)

    def _position(self, stream: _Stream, query: Query) -> str | None:
        """Return the cursor after the last record taken."""
        if stream.taken == len(stream.page):
            return stream.next
        taken = {record.ref for record in stream.page[: stream.taken]}
        length = stream.taken
        while length:
            page = self._children.page(stream.name, query, stream.start, length)
            untaken = next((at for at, one in enumerate(page.records) if one.ref not in taken), None)
            if untaken is None and page.cursor is not None:
                return page.cursor
            # Some were deleted since, so others have moved up.
            length = length - 1 if untaken is None else untaken
        return stream.start


def _damaged(streams: Sequence[_Stream]) -> list[Damaged]:
    return [one for stream in streams for one in stream.damaged]


def _cursor(positions: dict[str, str | None]) -> str:
    return base64.urlsafe_b64encode(json.dumps(positions).encode()).decode()


def _positions(cursor: str, homes: list[str]) -> dict[str, str | None]:
    try:
        positions = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise bad_cursor(cursor) from None
    if not isinstance(positions, dict) or not positions or not set(positions) <= set(homes):
        raise bad_cursor(cursor)
    if not all(at is None or isinstance(at, str) for at in positions.values()):
        raise bad_cursor(cursor)
    return positions
