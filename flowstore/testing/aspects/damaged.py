"""Damaged records: each is reported alone, and the rest still works."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import CorruptError, NotFoundError
from flowstore.record import ERROR, RESULT, Key, Query, Ref
from flowstore.record.damage import on_damage
from flowstore.storage import RecordStorage
from flowstore.testing.aspects.batches import keys_of
from flowstore.testing.base import AdapterTests, require_fixture
from flowstore.testing.samples import KEY, record

BAD = Ref(RESULT, Key("flow", "task", "2"))
QUERIES = {"all": Query(), "of a flow": Query(flow_name="flow"), "by task id": Query(order="task_id")}


class DamageTests(AdapterTests):
    """A record with invalid headers is corrupt, skipped and deletable."""

    aspect = "damaged records"

    @pytest.fixture
    def beside(self, storage: RecordStorage, damage: Callable[[Ref], None] | None) -> list[Ref]:
        """Store five records and damage one; return the other references."""
        spoil = require_fixture(damage, "damage", "damaged records")
        refs = [Ref(RESULT, key) for key in keys_of(5)]
        storage.put_many([record(ref.key, ref.key.task_id, run_id="r", stored_at=1000.0) for ref in refs])
        spoil(BAD)
        return [ref for ref in refs if ref != BAD]

    @pytest.mark.parametrize("payload", [True, False])
    def test_a_damaged_record_is_corrupt(self, storage: RecordStorage, beside: list[Ref], payload: bool) -> None:
        """A damaged record is reported as missing, or raises a parser's error.

        A missing result would make its task run again.
        """
        with pytest.raises(CorruptError):
            storage.get(BAD.key, payload=payload)
        assert [pipeline.decode(storage.get(ref.key)) for ref in beside] == [ref.key.task_id for ref in beside]
        assert [one and one.ref for one in storage.get_many(beside)] == beside

    @pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
    @pytest.mark.parametrize("payload", [True, False])
    def test_listings_pass_over_a_damaged_record(
        self, storage: RecordStorage, beside: list[Ref], query: Query, payload: bool
    ) -> None:
        """A damaged record ends a listing, or is left out without a report."""
        reported: list[CorruptError] = []
        with on_damage(reported.append):
            listed = [one.ref for one in storage.records(query, payload=payload)]
            paged = [one.ref for one in storage.scan(query, limit=100, payload=payload).records]
        assert listed == paged == beside
        assert reported, "the damaged record was not reported"
        assert storage.count(query) in (len(beside), len(beside) + 1)

    def test_cleanups_pass_over_a_damaged_record(self, storage: RecordStorage, beside: list[Ref]) -> None:
        """A damaged record ends every cleanup that meets it."""
        with on_damage(lambda _: None):
            assert storage.cleanup(60) in (len(beside), len(beside) + 1)
            assert list(storage.ids(Query())) == []

    def test_a_damaged_record_can_be_deleted(
        self, storage: RecordStorage, beside: list[Ref], damage: Callable[[Ref], None] | None
    ) -> None:
        """A damaged record can't be deleted."""
        spoil = require_fixture(damage, "damage", "damaged records")
        with on_damage(lambda _: None):
            # An adapter may also refuse to overwrite what it can't read.
            with suppress(CorruptError):
                storage.put(record(BAD.key, "new"))
                assert pipeline.decode(storage.get(BAD.key)) == "new"
                spoil(BAD)
            assert storage.delete(BAD.key)
            with pytest.raises(NotFoundError):
                storage.get(BAD.key)
            storage.put_many([record(BAD.key, "new"), record(KEY, "error", ERROR)])
            spoil(BAD)
            assert storage.delete_tasks([BAD.key]) == 1
            storage.put(record(BAD.key, "new"))
            spoil(BAD)
            storage.purge()
            assert storage.count(Query()) == 0
            with pytest.raises(NotFoundError):
                storage.get(BAD.key)
