"""Large batches and pages: many bytes, and many records."""

from __future__ import annotations

import copy
import os
from typing import Any, ClassVar

from flowstore.record import RESULT, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.aspects.batches import keys_of
from flowstore.testing.base import AdapterTests

LARGE = 100_000
"""Bytes of each record of a batch that is larger than what many databases take or answer at once: 4 MB in all."""

WRITTEN = 3_500
"""Records in one batch: more than databases of 2,100 parameters a statement take, with one for each."""

NESTED: dict[str, Any] = {
    "run_id": "r",
    "a.b": {"$x": 2**63, "": [1, -(2**53) - 1]},
    "$set": {"a.b": {"c.d": None}},
    "": "no name",
    "0": [{"1": {"2": 0.1}}],
}
"""Headers whose names and numbers databases of documents are known to change."""


class LargeBatchTests(AdapterTests):
    """Large batches and large records are treated like small ones."""

    aspect = "batches"

    many_references: ClassVar[int] = 70_000
    """How many records are looked up in one call, and written up to 3,500: more than any statement has parameters.

    An adapter that sends a request for each may have fewer here: it has no such limit.
    """

    def test_batches_and_pages_hold_large_payloads(self, storage: RecordStorage) -> None:
        """Stored results are missing or reported as missing.

        The database's answer was cut at a megabyte.
        """
        given = [Record(Ref(RESULT, key), os.urandom(LARGE), {"run_id": "r"}) for key in keys_of(40)]
        refs = [one.ref for one in given]
        stored = storage.put_many(given)
        assert [one.payload for one in stored] == [one.payload for one in given]
        assert storage.get_many(refs) == stored
        page = storage.scan(Query(run_id="r"), limit=len(refs))
        assert {one.ref: one.payload for one in page.records} == {one.ref: one.payload for one in given}
        assert page.cursor is None
        assert storage.delete_many(refs) == len(refs)
        assert storage.add_many(given) == [None] * len(refs)
        assert [one and one.payload for one in storage.get_many(refs)] == [one.payload for one in given]

    def test_looks_up_more_than_a_statement_has_parameters(self, storage: RecordStorage) -> None:
        """A large lookup fails, or only its first records are found."""
        keys = keys_of(self.many_references)
        present = {number: keys[number] for number in range(0, len(keys), len(keys) // 60)}
        storage.put_many([Record(Ref(RESULT, key), b"%d" % number) for number, key in present.items()])
        found = storage.get_many([Ref(RESULT, key) for key in keys])
        assert {number: one.payload for number, one in enumerate(found) if one is not None} == {
            number: b"%d" % number for number in present
        }
        ids = tuple(key.task_id for key in keys[: 2 * WRITTEN])
        assert storage.count(Query(task_ids=ids)) == sum(number < 2 * WRITTEN for number in present)

    def test_writes_more_than_a_statement_has_parameters(self, storage: RecordStorage) -> None:
        """A large batch fails, or only its first records are stored or deleted."""
        count = min(WRITTEN, self.many_references)
        given = [Record(Ref(RESULT, key), b"%d" % number) for number, key in enumerate(keys_of(count))]
        refs = [one.ref for one in given]
        storage.put_many(given)
        assert [one and one.payload for one in storage.get_many(refs)] == [one.payload for one in given]
        assert None not in storage.add_many(given[::-1])
        assert storage.delete_many(refs) == count
        assert storage.count(Query()) == 0

    def test_keeps_all_headers_in_batches(self, storage: RecordStorage) -> None:
        """A batch drops unknown headers, or changes a name or a number."""
        given = [Record(Ref(RESULT, key), b"1", {**NESTED, "number": number}) for number, key in enumerate(keys_of(3))]
        expected = [dict(one.headers) for one in given]
        refs = [one.ref for one in given]

        def all_ways() -> list[list[Any]]:
            single = [storage.get(ref.key) for ref in refs]
            listed = list(storage.records(Query(run_id="r")))
            return [[one and one.headers for one in found] for found in (single, storage.get_many(refs), listed)]

        storage.put_many(given)
        assert all_ways() == [expected] * 3
        storage.delete_many(refs)
        storage.add_many(given)
        assert all_ways() == [expected] * 3
        storage.delete_many(refs)
        for one in given:
            storage.put(one)
        assert all_ways() == [expected] * 3

    def test_leaves_what_it_is_given_as_it_was(self, storage: RecordStorage) -> None:
        """The caller's record was changed.

        The caller may store it in another storage too.
        """
        given = [Record(Ref(RESULT, key), b"1", copy.deepcopy(NESTED)) for key in keys_of(4)]
        before = copy.deepcopy(given)
        storage.put(given[0])
        storage.put(given[0], if_revision=storage.get(given[0].key).revision)
        storage.put_many(given[:2])
        storage.add_many(given[2:])
        assert given == before
