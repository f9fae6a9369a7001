"""Listings of records, of which some may be damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from flowstore.errors import CorruptError, InvalidKeyError
from flowstore.record import Damaged, Key, Query, Record, Ref
from flowstore.record.querying import Place, matches_fields
from flowstore.storages.shared.headers import corrupt
from flowstore.storages.sql.rows import read_row

if TYPE_CHECKING:
    from flowstore.storages.sql.database import Database

_PAGE: Final = 200


class Found(NamedTuple):
    """A row: its number, where it comes in the order by task id, and its record or what is wrong with it."""

    number: int
    place: Place
    what: Record | Damaged


def selected(
    database: Database, query: Query, after: int | Place | None, limit: int, payload: bool
) -> tuple[list[Found], bool]:
    """Return the first rows of a query behind a place, in its order, and whether there are more.

    A server may fail at one value that is not the JSON that its headers claim. The values are then looked at here, page
    by page.
    """
    try:
        # One row more than asked for tells whether there is a next page.
        rows = _sorted(database, query, database.rows(*database.sql.scan(query, after, limit + 1, payload)))
        return rows[:limit], len(rows) > limit
    except CorruptError:
        if not query.where or database.sql.tells_json:
            raise
    found: list[Found] = []
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
    """Return how many records there are of a query; what is no JSON is passed over, as ``selected`` does."""
    try:
        return int(database.rows(*database.sql.count(query))[0][0])
    except CorruptError:
        if not query.where or database.sql.tells_json:
            raise
    return sum(isinstance(row.what, Record) for row in _matching(database, query, None))


def _matching(database: Database, query: Query, after: int | Place | None) -> Iterator[Found]:
    every, where = replace(query, where={}, skip=0), query.where or {}
    while True:
        page = _sorted(database, every, database.rows(*database.sql.scan(every, after, _PAGE, True)))
        for row in page:
            what = _looked_into(row.what)
            if isinstance(what, Damaged) or (what.is_json and matches_fields(what.payload, where)):
                yield row._replace(what=what)
        if len(page) < _PAGE:
            return
        after = page[-1].place if query.order == "task_id" else page[-1].number


def _looked_into(what: Record | Damaged) -> Record | Damaged:
    if isinstance(what, Record) and what.is_json:
        try:
            orjson.loads(what.payload)
        except ValueError as exc:
            return Damaged(corrupt(what.ref, f"the value of {what.ref} is no JSON, though its headers say so ({exc})"))
    return what


def _sorted(database: Database, query: Query, rows: Sequence[tuple[Any, ...]]) -> list[Found]:
    found = [found_in(database, row[0], row[1:]) for row in rows]
    if query.order == "task_id":
        found.sort(key=lambda row: database.sql.place(row.place), reverse=query.descending)
    else:
        found.sort(key=lambda row: row.number, reverse=query.descending)
    return found


def found_in(database: Database, number: int, row: Sequence[Any]) -> Found:
    """Return what is in a row, damaged or not."""
    try:
        record = read_row(database, row, None)
    except CorruptError as exc:
        return Found(number, _place_of(database, row), Damaged(exc))
    return Found(number, record.ref.place, record)


def _place_of(database: Database, row: Sequence[Any]) -> Place:
    """Return where a damaged row comes; first, where its names are none."""
    with suppress(CorruptError, InvalidKeyError):
        kind, *key, name = map(database.text, row[:5])
        return Ref(kind, Key(*key), name).place
    return "", b"\0" * 32
