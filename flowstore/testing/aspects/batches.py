"""Many records in one call."""

from __future__ import annotations

import pytest

from flowstore.encoding import pipeline
from flowstore.record import ERROR, RESULT, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.base import AdapterTests
from flowstore.testing.samples import KEY, record

MANY = 1203
"""More than databases take in one statement, request or page without being asked to, and no round number."""


def keys_of(count: int, task_name: str = "task") -> list[Key]:
    """Return ``count`` keys."""
    return [Key("flow", task_name, str(number)) for number in range(count)]


class BatchTests(AdapterTests):
    """A batch does to each record what the single call does."""

    aspect = "batches"

    def test_gets_many_in_the_order_asked_for(self, storage: RecordStorage) -> None:
        """Records are not in the requested order, or missing ones are omitted."""
        keys = keys_of(MANY)
        storage.put_many([record(key, number) for number, key in enumerate(keys[::2])])
        refs = [Ref(RESULT, key) for key in keys]
        found = storage.get_many(refs)
        assert [one and one.ref for one in found] == [
            ref if number % 2 == 0 else None for number, ref in enumerate(refs)
        ]
        again = [refs[4], refs[1], refs[0], refs[4]]
        assert [one and one.ref for one in storage.get_many(again)] == [refs[4], None, refs[0], refs[4]]
        assert storage.get_many([]) == []

    def test_stores_many(self, storage: RecordStorage) -> None:
        """A record of a large batch is missing, swapped, or not in its run."""
        given = [record(key, number, run_id="r") for number, key in enumerate(keys_of(MANY))]
        stored = storage.put_many(given)
        assert stored == [one.at(after.revision) for one, after in zip(given, stored, strict=True)]
        assert storage.get_many([one.ref for one in given]) == stored
        assert storage.count(Query(run_id="r")) == MANY
        listed = list(storage.records(Query(run_id="r")))
        assert sorted(listed, key=lambda one: int(one.key.task_id)) == stored
        wanted = tuple(one.key.task_id for one in given[::2])
        assert storage.count(Query(task_ids=wanted)) == len(wanted)
        assert storage.put_many([]) == []

    def test_stores_many_over_old_and_new_ones(self, storage: RecordStorage) -> None:
        """A batch counts, resets or forgets the revisions of existing records."""
        keys = keys_of(6)
        before = {key: storage.put(record(key, "old", run_id="old")).revision for key in keys[:4]}
        for _ in range(2):
            storage.put(record(keys[1], "older", run_id="old"))
        order = [5, 1, 0, 4, 3]
        stored = storage.put_many([record(keys[number], number, run_id="new") for number in order])
        counted = [one.revision - before.get(one.key, one.revision - 1) for one in stored]
        assert counted == [1, 3, 1, 1, 1]
        assert [storage.get(one.key) for one in stored] == stored
        assert pipeline.decode(storage.get(keys[2])) == "old"
        assert [one.key for one in storage.records(Query(run_id="old"))] == [keys[2]]
        assert storage.count(Query(run_id="new")) == 5
        everything = list(storage.records(Query()))
        assert [one.key for one in everything[:4]] == keys[:4], "a record that was replaced has lost its place"
        assert {one.key for one in everything[4:]} == set(keys[4:])

    def test_stores_many_of_all_kinds(self, storage: RecordStorage) -> None:
        """A record of a mixed batch got the headers or payload of another one."""
        given = [
            record(KEY, 1),
            record(KEY, "é\0" * 50_000, ERROR, state="FAILURE"),
            record(KEY, None, ERROR, "1", parents=[["a", "b"]]),
            record(Key("", "", ""), {}, "own kind", "x", run_id="r"),
        ]
        stored = storage.put_many(given)
        assert storage.get_many([one.ref for one in given]) == stored
        assert stored == [one.at(after.revision) for one, after in zip(given, stored, strict=True)]

    def test_refuses_the_same_reference_twice_in_a_batch(self, storage: RecordStorage) -> None:
        """A batch with the same reference twice was stored.

        Chance would decide which record stays, so nothing may be stored.
        """
        with pytest.raises(ValueError, match="same reference"):
            storage.put_many([record(Key("f", "t", "2"), 0), record(KEY, 1), record(KEY, 2)])
        assert storage.count(Query()) == 0

    def test_repeats_a_batch_without_harm(self, storage: RecordStorage) -> None:
        """A batch can't be repeated after an error that stored part of it."""
        given = [record(key, number) for number, key in enumerate(keys_of(5))]
        storage.put_many(given[:3])
        storage.put_many(given)
        assert [pipeline.decode(storage.get(one.key)) for one in given] == list(range(5))
        assert storage.count(Query()) == 5

    def test_deletes_many(self, storage: RecordStorage) -> None:
        """Records of a large batch stay, others go, or the count is wrong."""
        keys = keys_of(MANY)
        stored = storage.put_many([record(key, 1, run_id="r") for key in keys])
        kept, doomed = keys[::10], [key for number, key in enumerate(keys) if number % 10]
        refs = [Ref(RESULT, key) for key in doomed]
        missing = [Ref(ERROR, keys[0]), Ref(RESULT, keys[0], "x"), Ref(RESULT, Key("other", "task", "1"))]
        assert storage.delete_many([*missing, *refs, refs[0]]) == len(refs)
        assert storage.delete_many(refs) == 0
        assert storage.delete_many([]) == 0
        assert {one.key for one in storage.records(Query(run_id="r"))} == set(kept)
        assert storage.count(Query()) == len(kept)
        assert storage.get_many(refs[:2]) == [None, None]
        assert storage.put(record(doomed[0], "again"), if_revision=0).revision > stored[-1].revision
