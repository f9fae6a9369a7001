"""Listings: records that a query selects, by the page, all of them, or counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from flowstore.errors import CorruptError
from flowstore.record import Damaged, Page, Query, Record, Ref, pages
from flowstore.record.damage import report_damage
from flowstore.storage.capabilities import QueriesFields, require
from flowstore.storage.pointers import Pointers
from flowstore.storage.sorting import sorted_page

_PAGE: Final = 500


class Listings(Pointers):
    """List and count records by query.

    What can't be read is left out and logged. ``scan`` has it in ``page.damaged`` too.
    """

    # What an adapter may override

    def _count(self, query: Query) -> int:
        """Return the number of selected records; without reading them if the database can."""
        return sum(1 for _ in self._pages(query, False))

    # For callers

    def scan(self, query: Query, *, limit: int = 100, cursor: str | None = None, payload: bool = True) -> Page:
        """Return one page of the selected records; pass ``page.cursor`` on to get the next one."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        try:
            page = self._page(self._dated(query), cursor, limit, payload)
        except Exception as exc:
            self._raise(exc)
        damaged = list(page.damaged)
        for one in page.damaged:
            report_damage(one.error)
        found = (self._listed_record(record, payload, damaged) for record in page.records)
        records = [record for record in found if record is not None]
        return Page(records, page.cursor, damaged)

    def records(self, query: Query, *, payload: bool = True) -> Iterator[Record]:
        """Iterate over all selected records, reading a page at a time."""
        for record in self._each(query, payload):
            if (listed := self._listed_record(record, payload, [])) is not None:
                yield listed

    def ids(self, query: Query) -> Iterator[Ref]:
        """Iterate over the references of all selected records; no payload is read."""
        for record in self.records(query, payload=False):
            yield record.ref

    def count(self, query: Query) -> int:
        """Return the number of selected records."""
        try:
            return self._count(replace(self._dated(query), order="stored", skip=0))
        except Exception as exc:
            self._raise(exc)

    # Pages

    def _each(self, query: Query, payload: bool) -> Iterator[Record]:
        try:
            yield from self._pages(self._dated(query), payload)
        except Exception as exc:
            self._raise(exc)

    def _pages(self, query: Query, payload: bool) -> Iterator[Record]:
        logged: set[str] = set()
        for page in pages(lambda cursor: self._page(query, cursor, _PAGE, payload)):
            # Some adapters meet the same damaged records in each page.
            for one in page.damaged:
                if str(one.error) not in logged:
                    logged.add(str(one.error))
                    report_damage(one.error)
            yield from page.records

    def _page(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return a page as ``_scan`` does, with whatever the adapter leaves to this class."""
        return selected(query, self._scanned(query, cursor, limit, payload))

    def _scanned(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.skip and cursor is not None:
            query = replace(query, skip=0)
        if query.order == "task_id" and not self.sorts:
            heads = self._pages(replace(query, order="stored", skip=0), False)
            return sorted_page(query, cursor, limit, heads, self._read_each if payload else None)
        if query.skip and not self.skips:
            skip, query = query.skip, replace(query, skip=0)
            while skip:
                passed = self._page(query, cursor, min(skip, _PAGE), False)
                cursor, skip = passed.cursor, skip - len(passed.records)
                if cursor is None:
                    return Page([])
        return self._scan(query, cursor, limit, payload)

    def _read_each(self, refs: Sequence[Ref]) -> tuple[list[Record], list[Damaged]]:
        """Read several records for a listing; return those that are stored, and those that can't be read."""
        try:
            return [record for record in self._get_many(refs) if record is not None], []
        except CorruptError as exc:
            if len(refs) == 1:
                exc.ref = refs[0]
                return [], [Damaged(exc)]
        each = [self._read_each([ref]) for ref in refs]
        return [one for records, _ in each for one in records], [one for _, damaged in each for one in damaged]

    def _dated(self, query: Query) -> Query:
        if query.where:
            require(self, QueriesFields)
        if query.live_at is None and query.expired_at is None:
            return replace(query, live_at=self.now())
        return query


def selected(query: Query, page: Page) -> Page:
    """Return a page without the damaged records that the query certainly doesn't select."""
    if not page.damaged:
        return page
    damaged = [one for one in page.damaged if one.error.ref is None or query.names(one.error.ref)]
    return Page(page.records, page.cursor, damaged)
