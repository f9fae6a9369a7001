"""Adapters of records, each with one mistake that adapters make with queries."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, ClassVar

from flowstore.errors import StorageError
from flowstore.record import Page, Query, Record
from tests.testing.wire import WireStorage


class _Changed(WireStorage):
    """Asks for something else than it was asked for."""

    def _changed(self, query: Query) -> Query:
        return query

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return super()._scan(self._changed(query), cursor, limit, payload)


class PatternIgnored(_Changed):
    def _changed(self, query: Query) -> Query:
        return replace(query, pattern=None)


class PatternLimitBeforeFilter(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(replace(query, pattern=None), cursor, limit, payload)
        return Page([record for record in page.records if query.matches(record)], page.cursor)


class PatternIsLike(_Changed):
    """The characters that LIKE takes for more than themselves are not escaped."""

    def _changed(self, query: Query) -> Query:
        return replace(query, pattern=query.pattern and query.pattern.replace("_", "?").replace("%", "*"))


class PatternIsGlob(_Changed):
    """Nor are those of GLOB."""

    def _changed(self, query: Query) -> Query:
        return replace(query, pattern=query.pattern and re.sub(r"\[[^]]+\]", "?", query.pattern))


class PatternIsRegex(_Changed):
    """Nor the dot of a regular expression."""

    def _changed(self, query: Query) -> Query:
        return replace(query, pattern=query.pattern and query.pattern.replace(".", "?"))


class PatternFoldsCase(_Changed):
    def _changed(self, query: Query) -> Query:
        return replace(query, pattern=query.pattern and query.pattern.lower())


class PatternEndsAtNul(_Changed):
    def _changed(self, query: Query) -> Query:
        return replace(query, pattern=query.pattern and query.pattern.partition("\0")[0])


class PatternReplacesIds(_Changed):
    def _changed(self, query: Query) -> Query:
        return replace(query, task_ids=None) if query.pattern is not None else query


class _Hiding(WireStorage):
    """Leaves out what it takes for something of its own."""

    def _hides(self, record: Record) -> bool:
        return False

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(query, cursor, limit, payload)
        return Page([record for record in page.records if not self._hides(record)], page.cursor)


class LosesLocks(_Hiding):
    def _hides(self, record: Record) -> bool:
        return record.key.task_id.endswith("-lock")


class LosesSlashes(_Hiding):
    def _hides(self, record: Record) -> bool:
        return "/" in record.key.task_id


class LosesLargeFields(_Hiding):
    def _hides(self, record: Record) -> bool:
        return bool(record.headers.get("size", 0) > 65_536)


class SkipBeforeFilter(WireStorage):
    skips: ClassVar[bool] = True

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.skip:
            cursor = super()._scan(Query(descending=query.descending), None, query.skip, False).cursor
            if cursor is None:
                return Page([])
        return super()._scan(replace(query, skip=0), cursor, limit, payload)


class SkipIgnored(_Changed):
    skips: ClassVar[bool] = True

    def _changed(self, query: Query) -> Query:
        return replace(query, skip=0)


class SortsInPages(WireStorage):
    sorts: ClassVar[bool] = True

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(replace(query, order="stored"), cursor, limit, payload)
        if query.order == "task_id":
            page.records.sort(key=_place, reverse=query.descending)
        return page


class SortsAndCounts(WireStorage):
    """Its cursors count records."""

    sorts: ClassVar[bool] = True

    def _key(self, record: Record) -> Any:
        return record.ref.sort_key

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.order != "task_id":
            return super()._scan(query, cursor, limit, payload)
        if cursor is not None and not re.fullmatch("[0-9]{1,9}", cursor):
            raise StorageError("not a cursor")
        start = int(cursor or 0)
        found = super()._scan(replace(query, order="stored", descending=False), None, 1_000_000, payload).records
        found.sort(key=self._key, reverse=query.descending)
        return Page(found[start : start + limit], str(start + limit) if start + limit < len(found) else None)


class SortsByLanguage(SortsAndCounts):
    def _key(self, record: Record) -> Any:
        return (record.key.task_id.casefold(), record.ref.sort_key)


class SortsByUtf16(SortsAndCounts):
    def _key(self, record: Record) -> Any:
        return (record.key.task_id.encode("utf-16-be"), record.ref.address)


class SortsEqualIdsAnyhow(SortsAndCounts):
    def _key(self, record: Record) -> Any:
        return record.key.task_id


class FieldsIgnored(_Changed):
    def _changed(self, query: Query) -> Query:
        return replace(query, where=None)


class FieldsLimitBeforeFilter(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(replace(query, where=None), cursor, limit, True)
        records = [record for record in page.records if query.matches(record)]
        return Page(records if payload else [replace(record, payload=b"") for record in records], page.cursor)


class FieldsAsText(_Changed):
    def _changed(self, query: Query) -> Query:
        return replace(query, where=query.where and {name: str(value) for name, value in query.where.items()})


class FieldsTakeTrueForOne(_Changed):
    def _changed(self, query: Query) -> Query:
        where = query.where or {}
        return replace(query, where={name: int(one) if one is True else one for name, one in where.items()})


class FieldsAsFloats(_Changed):
    def _changed(self, query: Query) -> Query:
        where = query.where or {}
        return replace(query, where={name: float(one) if type(one) is int else one for name, one in where.items()})


class FieldsOfOneLevel(_Changed):
    def _changed(self, query: Query) -> Query:
        where = query.where or {}
        return replace(query, where={name.rpartition(".")[2]: value for name, value in where.items()})


class FieldsOfLastOnly(_Changed):
    def _changed(self, query: Query) -> Query:
        return replace(query, where=dict(list((query.where or {}).items())[-1:]))


class FieldsOfAnyBytes(WireStorage):
    """Takes all that looks like JSON for it."""

    def _dumped(self, record: Record) -> Any:
        return super()._dumped(replace(record, headers={**record.headers, "content_type": "application/json"}))


def _place(record: Record) -> tuple[str, bytes]:
    return record.ref.sort_key
