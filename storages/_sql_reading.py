"""Listings of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from flowstore.errors import CorruptError
from flowstore.querying import Place, matches_fields
from flowstore.record import Query, Record
from flowstore.storages._sql_rows import read_row

if TYPE_CHECKING:
    from flowstore.storages._sql_database import Database

_PAGE: Final = 200

Found = tuple[int, Record]
"""A record, and the number of its row."""


def selected(database: Database, query: Query, after: int | Place | None, limit: int, payload: bool) -> list[Found]:
    """Return the first records of a query behind a place, in its order.

    A server may fail at one value that is not the JSON that its headers claim. That one is passed over: the values are
    then looked at here, page by page.
    """
    try:
        return _sorted(database, query, database.rows(*database.sql.scan(query, after, limit, payload)))
    except CorruptError:
        if not query.where or database.sql.tells_json:
            raise
    found: list[Found] = []
    skip = query.skip
    for number, record in _matching(database, query, after):
        if skip:
            skip -= 1
            continue
        found.append((number, record if payload else replace(record, payload=b"")))
        if len(found) == limit:
            break
    return found


def counted(database: Database, query: Query) -> int:
    """Return how many records there are of a query; what is no JSON is passed over, as ``selected`` does."""
    try:
        return int(database.rows(*database.sql.count(query))[0][0])
    except CorruptError:
        if not query.where or database.sql.tells_json:
            raise
    return sum(1 for _ in _matching(database, query, None))


def _matching(database: Database, query: Query, after: int | Place | None) -> Iterator[Found]:
    every, where = replace(query, where={}, skip=0), query.where or {}
    while True:
        page = _sorted(database, every, database.rows(*database.sql.scan(every, after, _PAGE, True)))
        for number, record in page:
            if record.is_json and matches_fields(record.payload, where):
                yield number, record
        if len(page) < _PAGE:
            return
        number, record = page[-1]
        after = record.ref.place if query.order == "task_id" else number


def _sorted(database: Database, query: Query, rows: Sequence[tuple[Any, ...]]) -> list[Found]:
    found = [(row[0], read_row(database, row[1:], None)) for row in rows]
    if query.order == "task_id":
        found.sort(key=lambda one: database.sql.place(one[1].ref.place), reverse=query.descending)
    else:
        found.sort(key=lambda one: one[0], reverse=query.descending)
    return found
