"""Listing by task id, for databases without that order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from flowstore.record import Damaged, Page, Query, Record, Ref, SortKey
from flowstore.record.matching import dump_cursor, load_cursor


def sorted_page(
    query: Query,
    cursor: str | None,
    limit: int,
    heads: Iterable[Record],
    read: Callable[[Sequence[Ref]], tuple[list[Record], list[Damaged]]] | None,
) -> Page:
    """Return one page of the selected records, sorted by task id.

    Every selected record is looked at; only one page is in memory.

    Args:
        heads: all records that the query selects, without payloads, in any order.
        read: reads the records of the page again, with payloads, and returns the damaged ones apart; ``None`` if
            payloads aren't needed.
    """
    following = heads if cursor is None else _after(heads, load_cursor(cursor), query.descending)
    choose = heapq.nlargest if query.descending else heapq.nsmallest
    # One extra record shows whether there is a next page. No two records have the same sort key.
    found = choose(query.skip + limit + 1, following, key=_sort_key)[query.skip :]
    records, damaged = found[:limit], list[Damaged]()
    if read is not None:
        # Some may have been deleted or replaced since.
        again, damaged = read([record.ref for record in records])
        records = [record for record in again if query.matches(record)]
    return Page(records, dump_cursor(_sort_key(found[limit - 1])) if len(found) > limit else None, damaged)


def _sort_key(record: Record) -> SortKey:
    return record.ref.sort_key


def _after(heads: Iterable[Record], start: SortKey, descending: bool) -> Iterator[Record]:
    for head in heads:
        sort_key = head.ref.sort_key
        if sort_key < start if descending else sort_key > start:
            yield head
