"""Adapters of records, each with one mistake that shows when a record can't be read."""

from __future__ import annotations

from collections.abc import Sequence

from flowstore.errors import CorruptError
from flowstore.record import Page, Query, Record, Ref
from tests.testing.wire import WireStorage


class DamageIsMiss(WireStorage):
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        try:
            return super()._get(ref, payload)
        except CorruptError:
            return None


class DamageIsBug(WireStorage):
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        try:
            return super()._get(ref, payload)
        except CorruptError as exc:
            raise ValueError(str(exc)) from None


class DamageEndsListings(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(query, cursor, limit, payload)
        for one in page.damaged:
            raise one.error
        return page


class DamageIsPassedOverSilently(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(query, cursor, limit, payload)
        return Page(page.records, page.cursor)


class DamageEndsCleanups(WireStorage):
    def _delete_seen(self, records: Sequence[Record]) -> int:
        for page in (self._scan(Query(live_at=None), None, 1000, False),):
            for one in page.damaged:
                raise one.error
        return super()._delete_seen(records)


class DamageStays(WireStorage):
    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        self._get(ref, False)
        return super()._delete(ref, if_revision)
