"""The order by task id, for adapters whose database has no such order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from flowstore.record import Damaged, Page, Query, Record, Ref
from flowstore.record.querying import Place, dump_place, load_place


def sorted_page(
    query: Query,
    cursor: str | None,
    limit: int,
    heads: Iterable[Record],
    read: Callable[[Sequence[Ref]], tuple[list[Record], list[Damaged]]] | None,
) -> Page:
    """Return a page by task id; all that is selected is looked at, and a page of it kept in memory.

    Args:
        heads: everything that the query selects, in any order.
        read: reads the records of the page once more, with their payloads, and tells which of them are damaged;
            ``None`` if payloads are not asked for.
    """
    following = heads if cursor is None else _behind(heads, load_place(cursor), query.descending)
    choose = heapq.nlargest if query.descending else heapq.nsmallest
    # One more than asked for tells whether there is a next page. No two have the same place.
    found = choose(query.skip + limit + 1, following, key=_place)[query.skip :]
    records, damaged = found[:limit], list[Damaged]()
    if read is not None:
        # Somebody may have deleted or replaced some since.
        again, damaged = read([record.ref for record in records])
        records = [record for record in again if query.matches(record)]
    return Page(records, dump_place(_place(found[limit - 1])) if len(found) > limit else None, damaged)


def _place(record: Record) -> Place:
    return record.ref.place


def _behind(heads: Iterable[Record], after: Place, descending: bool) -> Iterator[Record]:
    for head in heads:
        place = head.ref.place
        if place < after if descending else place > after:
            yield head
