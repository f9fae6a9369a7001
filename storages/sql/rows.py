"""Rows: records as the tables hold them, read one by one or as a listing, of which some may be damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import orjson

from flowstore.errors import CorruptError, InvalidKeyError
from flowstore.record import Damaged, Key, Page, Query, Record, Ref, SortKey
from flowstore.record.matching import dump_cursor, load_cursor, matches_fields
from flowstore.storages.shared.headers import corrupt, cursor_number, dump_headers, load_headers

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")

_BATCH: Final = 500
_PAGE: Final = 200
_NAMES: Final = 6
"""How many values of a row say which record it is."""

REVISION_AT: Final = 8
"""Where a row has the revision that a new record gets."""


def rows_of(database: Database, records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """Return the rows of a batch in an order in which they can be written."""
    rows = [row_of(database, record, dump_headers(record)) for record in records]
    if database.locks_rows:
        # The same order everywhere: two batches with the same records never wait for each other in a circle.
        rows.sort()
    return rows


def row_of(database: Database, record: Record, headers_json: bytes) -> tuple[Any, ...]:
    """Return the values of a row in the order of the statements' parameters."""
    ref, key, headers = record.ref, record.ref.key, record.headers
    names = ref.kind, key.flow_name, key.task_name, key.task_id, ref.name, headers.get("run_id"), headers.get("state")
    return (
        ref.address,
        *([None if name is None else database.key(name) for name in names] if database.escapes else names),
        record.revision,
        headers.get("stored_at", 0.0),
        headers.get("expires_at"),
        headers_json.decode(),
        *database.columns(record),
    )


def read_row(database: Database, row: Sequence[Any], ref: Ref | None) -> Record:
    """Return the record of a row.

    Args:
        row: kind, flow name, task name, task id, name, revision, headers, and the payload if the statement reads it.
        ref: the reference that the row should have. The record of such a row has this very object.

    Raises:
        CorruptError: the row is not a record's.
    """
    try:
        names = tuple(map(database.text, row[:5])) if database.escapes else tuple(row[:5])
        if ref is None or names != ref.names:
            # A row under another record's address keeps its own reference, which the caller's check refuses.
            kind, *key, name = names
            ref = Ref(kind, Key(*key), name)
    except InvalidKeyError as exc:
        raise CorruptError(f"a row of {database.target} has invalid names: {exc}") from exc
    revision, headers, *payload = row[5:]
    if type(revision) is not int:
        raise corrupt(ref, f"the row of {ref} has the revision {revision!r}")
    if payload and not isinstance(payload[0], bytes | bytearray | memoryview):
        raise corrupt(ref, f"the row of {ref} has neither a value nor a payload")
    if not isinstance(headers, str | bytes):
        raise corrupt(ref, f"the row of {ref} has no headers")
    return Record(ref, payload[0] if payload else b"", load_headers(headers, ref), revision)


def content_of(row: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a row that replace those of another one."""
    return (*row[_NAMES:REVISION_AT], *row[REVISION_AT + 1 :])


def batches(items: list[T]) -> list[list[T]]:
    """Split a list into batches whose statements have few enough parameters."""
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]


class _Found(NamedTuple):
    """A row: its number, its place in the order by task id, and its record or what is wrong with it."""

    number: int
    sort_key: SortKey
    what: Record | Damaged


def listed(database: Database, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
    """Return a page of what a query selects."""
    read = load_cursor if query.order == "task_id" else cursor_number
    after = None if cursor is None else read(cursor)
    if _selects_nothing(query):
        return Page([])
    found, has_more = _selected(database, query, after, limit, payload)
    here = [row.what for row in found]
    if not has_more:
        return _page(here, None)
    last = found[-1]
    return _page(here, dump_cursor(last.sort_key) if query.order == "task_id" else str(last.number))


def listed_by_expiry(database: Database, query: Query, cursor: str | None, limit: int) -> Page:
    """Return a page of the heads of expired records, the first to expire first."""
    if _selects_nothing(query):
        return Page([])
    expires_at, _, number = (cursor or "").partition(" ")
    after = None if cursor is None else (float(expires_at), int(number))
    rows = database.rows(*database.sql.expired(query, after, limit))
    last = "{!r} {}".format(*rows[-1][:2]) if len(rows) == limit else None
    return _page([_found_in(database, row[1], row[2:]).what for row in rows], last)


def _page(found: Sequence[Record | Damaged], cursor: str | None) -> Page:
    records = [one for one in found if isinstance(one, Record)]
    return Page(records, cursor, [one for one in found if isinstance(one, Damaged)])


def _selects_nothing(query: Query) -> bool:
    return () in (query.kinds, query.task_ids, query.states)


def _selected(
    database: Database, query: Query, after: int | SortKey | None, limit: int, payload: bool
) -> tuple[list[_Found], bool]:
    """Return the first rows of a query after a place, in its order, and whether there are more.

    A server may fail at a single value that is not the JSON that its headers claim. Then the values are compared here,
    page by page.
    """
    try:
        # One row more than the page shows whether there is a next page.
        rows = _sorted(database, query, database.rows(*database.sql.scan(query, after, limit + 1, payload)))
        return rows[:limit], len(rows) > limit
    except CorruptError:
        if not query.where or database.sql.checks_json:
            raise
    found: list[_Found] = []
    skip, left = query.skip, limit
    for row in _matching(database, query, after):
        if isinstance(row.what, Record):
            if skip:
                skip -= 1
                continue
            if not left:
                return found, True
            left -= 1
            if not payload:
                row = row._replace(what=replace(row.what, payload=b""))
        found.append(row)
    return found, False


def counted(database: Database, query: Query) -> int:
    """Return the number of records of a query; damaged JSON is left out, as in ``listed``."""
    if _selects_nothing(query):
        return 0
    try:
        return int(database.rows(*database.sql.count(query))[0][0])
    except CorruptError:
        if not query.where or database.sql.checks_json:
            raise
    return sum(isinstance(row.what, Record) for row in _matching(database, query, None))


def _matching(database: Database, query: Query, after: int | SortKey | None) -> Iterator[_Found]:
    every, where = replace(query, where={}, skip=0), query.where or {}
    while True:
        page = _sorted(database, every, database.rows(*database.sql.scan(every, after, _PAGE, True)))
        for row in page:
            what = _check_json(row.what)
            if isinstance(what, Damaged) or (what.is_json and matches_fields(what.payload, where)):
                yield row._replace(what=what)
        if len(page) < _PAGE:
            return
        after = page[-1].sort_key if query.order == "task_id" else page[-1].number


def _check_json(what: Record | Damaged) -> Record | Damaged:
    if isinstance(what, Record) and what.is_json:
        try:
            orjson.loads(what.payload)
        except ValueError as exc:
            return Damaged(corrupt(what.ref, f"the value of {what.ref} is not JSON, though its headers say so ({exc})"))
    return what


def _sorted(database: Database, query: Query, rows: Sequence[tuple[Any, ...]]) -> list[_Found]:
    found = [_found_in(database, row[0], row[1:]) for row in rows]
    if query.order == "task_id":
        found.sort(key=lambda row: database.sql.sort_key(row.sort_key), reverse=query.descending)
    else:
        found.sort(key=lambda row: row.number, reverse=query.descending)
    return found


def _found_in(database: Database, number: int, row: Sequence[Any]) -> _Found:
    """Return what is in a row, damaged or not."""
    try:
        record = read_row(database, row, None)
    except CorruptError as exc:
        return _Found(number, _sort_key_of(database, row), Damaged(exc))
    return _Found(number, record.ref.sort_key, record)


def _sort_key_of(database: Database, row: Sequence[Any]) -> SortKey:
    """Return the place of a damaged row; the first one if its names can't be read."""
    with suppress(CorruptError, InvalidKeyError):
        kind, *key, name = map(database.text, row[:5])
        return Ref(kind, Key(*key), name).sort_key
    return "", b"\0" * 32
