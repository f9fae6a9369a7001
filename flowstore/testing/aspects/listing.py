"""Queries, pages and counts."""

from __future__ import annotations

from typing import Any

import pytest

from flowstore.errors import StorageError
from flowstore.record import ERROR, RESULT, RUN, Key, Query, Record
from flowstore.storage import RecordStorage
from flowstore.testing.base import AdapterTests
from flowstore.testing.samples import KEY, record

SELECTIONS: list[dict[str, Any]] = [
    {},
    {"kinds": (RESULT,)},
    {"kinds": (RUN, ERROR)},
    {"kinds": ()},
    {"kinds": ("unknown",)},
    {"flow_name": "f"},
    {"flow_name": "F"},
    {"task_name": "u"},
    {"task_id": "1"},
    {"run_id": "r1"},
    {"run_id": "unknown"},
    {"kinds": (RESULT, ERROR), "flow_name": "g"},
    {"kinds": (RESULT,), "run_id": "r2"},
    {"kinds": (ERROR,), "run_id": "r2", "task_name": "t"},
    {"flow_name": "f", "task_name": "t", "task_id": "0"},
    {"kinds": (RUN,), "flow_name": "f", "task_name": "t", "task_id": "0"},
    {"flow_name": "g", "task_name": "t", "task_id": "1", "run_id": "r2"},
    {"task_ids": ("1",)},
    {"task_ids": ("1", "0", "1", "unknown")},
    {"task_ids": ()},
    {"task_id": "0", "task_ids": ("1", "0")},
    {"task_id": "0", "task_ids": ("1",)},
    {"flow_name": "f", "task_name": "t", "task_ids": ("1", "unknown")},
    {"flow_name": "f", "task_name": "t", "task_id": "0", "task_ids": ("1",)},
    {"run_id": "r1", "task_ids": ("0",)},
    {"states": ("SUCCESS",)},
    {"states": ("FAILURE", "SUCCESS")},
    {"states": ("success",)},
    {"states": ()},
    {"states": ("FAILURE",), "run_id": "r2", "flow_name": "g"},
    {"stored_from": 1007.0},
    {"stored_before": 1007.0},
    {"stored_from": 1003.0, "stored_before": 1017.5},
    {"stored_from": 1004.0, "stored_before": 1004.0},
    {"stored_from": 1006.0, "kinds": (RESULT,), "states": ("SUCCESS",)},
]


def fill(storage: RecordStorage) -> list[Record]:
    """Store 24 records that differ in everything a query can select.

    Returns them as they are stored.
    """
    facts = [
        (flow, task, str(number), kind, state, run_id)
        for number in range(2)
        for flow in ("f", "g")
        for task in ("t", "u")
        for kind, state, run_id in ((RESULT, "SUCCESS", "r1"), (ERROR, "FAILURE", "r2"), (RUN, None, None))
    ]
    stored = []
    for place, (flow, task, task_id, kind, state, run_id) in enumerate(facts):
        headers: dict[str, Any] = {"stored_at": 1000.0 + place}
        # What has no state or run has no such header at all, or one that is None: both select nothing.
        if place % 2 or state is not None:
            headers |= {"state": state, "run_id": run_id}
        stored.append(storage.put(record(Key(flow, task, task_id), place, kind, **headers)))
    return stored


class ListingTests(AdapterTests):
    """Queries select exactly, in the order of first storing, page by page."""

    aspect = "listing"

    @pytest.mark.parametrize("fields", SELECTIONS, ids=str)
    @pytest.mark.parametrize("descending", [False, True])
    def test_selects(self, storage: RecordStorage, fields: dict[str, Any], descending: bool) -> None:
        """A query field is ignored, or the order or the limit is wrong."""
        query = Query(**fields, descending=descending)
        expected = [one for one in fill(storage) if query.matches(one)]
        if descending:
            expected.reverse()
        assert storage.scan(query).records == expected
        assert pages(storage, query, 3) == expected

    def test_counts(self, storage: RecordStorage) -> None:
        """A count differs from the listing.

        Applications decide by it whether a run is complete.
        """
        assert storage.count(Query()) == 0
        stored = fill(storage)
        for fields in SELECTIONS:
            query = Query(**fields)
            assert storage.count(query) == len([one for one in stored if query.matches(one)]), fields
        assert storage.count(Query(run_id="r1", descending=True)) == storage.count(Query(run_id="r1"))

    def test_lists_in_the_order_of_first_storing(self, storage: RecordStorage) -> None:
        """Records are sorted by key, or by a time in their headers."""
        keys = [Key("f", "t", task_id) for task_id in ("5", "1", "9", "10", "3")]
        for number, key in enumerate(keys):
            storage.put(record(key, number, stored_at=1000.0 - number))
        assert [one.key for one in storage.scan(Query()).records] == keys
        assert [one.key for one in storage.scan(Query(descending=True)).records] == keys[::-1]

    def test_lists_headers_alone(self, storage: RecordStorage) -> None:
        """``payload=False`` leaves out more than the payload, or less."""
        expected = [Record(one.ref, b"", one.headers, one.revision) for one in fill(storage)]
        assert storage.scan(Query(), payload=False).records == expected

    def test_ends_with_the_last_page(self, storage: RecordStorage) -> None:
        """The last page has a cursor, or a cursor past the end does not end."""
        everything = fill(storage)
        assert storage.scan(Query(), limit=len(everything)).cursor is None
        page = storage.scan(Query(), limit=len(everything) - 1)
        assert page.cursor is not None
        for one in everything:
            storage.delete(one.key, one.kind)
        past = storage.scan(Query(), limit=5, cursor=page.cursor)
        assert (past.records, past.cursor) == ([], None)

    @pytest.mark.parametrize("descending", [False, True])
    def test_goes_on_where_it_was_while_records_come_and_go(self, storage: RecordStorage, descending: bool) -> None:
        """A listing repeats or skips records while some are stored or deleted.

        That is so if the cursor counts records.
        """
        everything = fill(storage)
        if descending:
            everything.reverse()
        page = storage.scan(Query(descending=descending), limit=10)
        for one in (*everything[5:12], everything[-1]):
            storage.delete(one.key, one.kind)
        new = storage.put(record(Key("new", "t", "1"), "new"))
        rest = storage.scan(Query(descending=descending), limit=1000, cursor=page.cursor)
        expected = everything[12:-1] if descending else [*everything[12:-1], new]
        assert [one.ref for one in rest.records] == [one.ref for one in expected]

    def test_does_not_step_over_what_is_stored_after_the_last_ones_were_deleted(self, storage: RecordStorage) -> None:
        """A listing skips a new record, which got the position of a deleted one."""
        everything = fill(storage)
        page = storage.scan(Query(), limit=10)
        for one in everything[5:]:
            storage.delete(one.key, one.kind)
        new = storage.put(record(Key("new", "t", "1"), "new"))
        assert storage.scan(Query(), cursor=page.cursor).records == [new]

    def test_keeps_the_place_of_a_record_that_is_replaced(self, storage: RecordStorage) -> None:
        """Replacing moves a record: a listing meets it twice or never."""
        keys = [Key("f", "t", str(number)) for number in range(5)]
        old = [storage.put(record(key, "old", run_id="r")) for key in keys]
        storage.put(record(keys[1], "new", run_id="r"))
        storage.put(record(keys[2], "new", run_id="r"), if_revision=old[2].revision)
        assert [one.key for one in storage.records(Query(run_id="r"))] == keys
        storage.delete(keys[0])
        storage.put(record(keys[0], "again", run_id="r"))
        assert [one.key for one in storage.records(Query(run_id="r"))] == [*keys[1:], keys[0]]

    def test_selects_to_the_instant(self, storage: RecordStorage) -> None:
        """Times are rounded when they are stored or queried."""
        times = [1000.0, 1000.0004, 1000.0005, 1000.25, 1000.9, 1000.9999, 1001.0]
        for number, at in enumerate(times):
            storage.put(record(Key("f", "t", str(number)), number, stored_at=at))
        for at in (*times, 1000.00045, 1000.95):
            for query, expected in (
                (Query(stored_from=at), [one for one in times if one >= at]),
                (Query(stored_before=at), [one for one in times if one < at]),
            ):
                assert [one.headers["stored_at"] for one in storage.records(query)] == expected, query
                assert storage.count(query) == len(expected), query

    def test_follows_a_record_to_another_run(self, storage: RecordStorage) -> None:
        """An index still finds a record by its headers before it was replaced."""
        for run_id in ("a", "b", None, "c"):
            storage.put(record(KEY, run_id, run_id=run_id, state=run_id))
            for other in ("a", "b", "c"):
                assert len(storage.scan(Query(run_id=other)).records) == (other == run_id)
                assert storage.count(Query(states=(other,))) == (other == run_id)

    @pytest.mark.parametrize("cursor", ["", "x", "-", "1-", "é", "1;2", "9" * 30])
    def test_refuses_a_foreign_cursor(self, storage: RecordStorage, cursor: str) -> None:
        """An invalid cursor is accepted, or raises a driver error.

        Cursors come from outside, such as a web page.
        """
        fill(storage)
        with pytest.raises(StorageError):
            storage.scan(Query(), cursor=cursor)

    @pytest.mark.parametrize("limit", [0, -1])
    def test_refuses_a_page_without_records(self, storage: RecordStorage, limit: int) -> None:
        """A page size of 0 is accepted: the listing never ends."""
        with pytest.raises(ValueError, match="limit"):
            storage.scan(Query(), limit=limit)


def pages(storage: RecordStorage, query: Query, limit: int) -> list[Record]:
    """Return all that a query selects, and check that its pages are full."""
    found: list[Record] = []
    cursors: set[str] = set()
    cursor: str | None = None
    while True:
        page = storage.scan(query, limit=limit, cursor=cursor)
        assert len(page.records) == limit or page.cursor is None, "a page that is not the last one is not full"
        found += page.records
        if page.cursor is None:
            return found
        assert page.cursor not in cursors, "a cursor leads back to where it came from"
        cursors.add(page.cursor)
        cursor = page.cursor
