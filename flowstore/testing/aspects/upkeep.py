"""Cleanup, deletion of tasks and runs, emptying, limits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import NotFoundError, ResultTooLargeError, UnsupportedError
from flowstore.record import CHECKPOINT, CLAIM, ERROR, HISTORY, RESULT, RUN, VARIABLE, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.aspects.batches import MANY, keys_of
from flowstore.testing.aspects.expiry import HOUR, expired
from flowstore.testing.base import AdapterTests, Bystander, require_fixture
from flowstore.testing.samples import KEY, record

OTHER = Key("flow", "task", "other")


class CleanupTests(AdapterTests):
    """Cleanup deletes what has expired or is old, and nothing else."""

    aspect = "cleanup"

    def test_deletes_what_has_expired(self, storage: RecordStorage) -> None:
        """An expired record stays, a live one is deleted, or the count is wrong."""
        for number in range(10):
            key = Key("flow", "task", str(number))
            if number % 2:
                expired(storage, key, run_id="r")
            else:
                storage.put(record(key, number, run_id="r", expires_at=storage.now() + HOUR))
        expired(storage, OTHER, VARIABLE)
        assert storage.cleanup() == 6
        assert storage.count(Query(expired_at=storage.now())) == 0
        assert sorted(ref.key.task_id for ref in storage.ids(Query())) == ["0", "2", "4", "6", "8"]
        assert storage.cleanup() == 0
        with pytest.raises(NotFoundError):
            storage.get(OTHER)

    @pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9996])
    def test_deletes_what_is_old_to_the_instant(
        self, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch, fraction: float
    ) -> None:
        """A record of exactly that age was deleted, or an older one stays.

        A comparison is wrong, or a time is rounded.
        """
        now = round(storage.now()) + fraction
        monkeypatch.setattr(type(storage), "now", lambda _: now)
        at = now - HOUR
        times = {"younger": math.nextafter(at, math.inf), "exact": at, "older": math.nextafter(at, 0), "new": now}
        for name, stored_at in times.items():
            storage.put(record(Key("flow", "task", name), name, stored_at=stored_at))
        assert storage.cleanup(HOUR) == 1
        assert sorted(ref.key.task_id for ref in storage.ids(Query())) == ["exact", "new", "younger"]

    def test_keeps_old_ones_of_kinds_that_survive(self, storage: RecordStorage) -> None:
        """Variables, configuration or history were deleted because of their age.

        Only kinds that are named have an age; expired records are deleted in any case.
        """
        for kind in (RESULT, ERROR, CHECKPOINT, "own kind", VARIABLE, HISTORY):
            storage.put(record(KEY, kind, kind, stored_at=1.0))
        expired(storage, OTHER, stored_at=1.0)
        assert storage.cleanup("1d") == 5
        assert sorted(ref.kind for ref in storage.ids(Query())) == [HISTORY, VARIABLE]
        assert storage.cleanup("1d", kinds=(HISTORY, RESULT)) == 1
        assert [ref.kind for ref in storage.ids(Query())] == [VARIABLE]

    def test_cleanup_keeps_selected_records(self, storage: RecordStorage) -> None:
        """``keep`` was not called for each expired or old record, or ignored.

        It gets the record without its payload.
        """
        asked: list[Ref] = []
        for number in range(6):
            key = Key("flow", "task", str(number))
            storage.put(record(key, number, stored_at=1.0, expires_at=storage.now() - 1 if number < 3 else None))

        def keep(one: Any) -> bool:
            asked.append(one.ref)
            assert one.payload == b""
            return int(one.key.task_id) % 3 == 0

        assert storage.cleanup("1d", keep=keep) == 4
        assert {ref.key.task_id for ref in asked} == {"0", "1", "2", "3", "4", "5"}
        assert [ref.key.task_id for ref in storage.ids(Query(live_at=0.0))] == ["0", "3"]

    def test_cleans_up_in_batches(self, storage: RecordStorage) -> None:
        """Cleanup skipped records, or stopped after its first batch."""
        keys = keys_of(MANY)
        storage.put_many([record(key, 1, stored_at=1.0, run_id="r") for key in keys])
        storage.put(record(OTHER, "new"))
        assert storage.cleanup(HOUR, batch=100) == MANY
        assert [ref.key for ref in storage.ids(Query())] == [OTHER]
        assert storage.count(Query(run_id="r")) == 0


class DeletionTests(AdapterTests):
    """The records of a task or run are deleted together, and no others."""

    aspect = "deletion"

    def test_deletes_a_run(self, storage: RecordStorage) -> None:
        """A record of the run stays, or one of another run was deleted."""
        run_key = Key("flow", "", "r")
        for ref, facts in (
            (Ref(RUN, run_key), {"run_id": "r"}),
            (Ref(RUN, run_key, "child"), {"run_id": "parent"}),
            (Ref(VARIABLE, run_key, "v"), {"run_id": "r"}),
            (Ref(RESULT, KEY), {"run_id": "r"}),
            (Ref(ERROR, KEY, "1"), {"run_id": "r", "expires_at": storage.now() - 1}),
            (Ref(CHECKPOINT, KEY, "c"), {}),
            (Ref("own kind", Key("flow", "task", "2")), {"run_id": "r"}),
        ):
            storage.put(record(ref.key, "mine", ref.kind, ref.name, **facts))
        assert storage.claim(KEY, "lock")
        storage.store_blob(KEY, "blob", b"x" * 300_000)
        others: tuple[tuple[Ref, dict[str, Any]], ...] = (
            (Ref(RESULT, KEY, "other"), {"run_id": "r2"}),
            (Ref(RESULT, Key("flow", "task", "3")), {"run_id": "R"}),
            (Ref(RESULT, Key("flow", "task", "4")), {"run_id": "r "}),
            (Ref(RESULT, Key("flow", "task", "5")), {}),
            (Ref(RESULT, Key("flow", "task ", KEY.task_id)), {}),
            (Ref(RUN, Key("flow", "", "started"), "child"), {"run_id": "r"}),
            (Ref(RUN, Key("flow", "", "started")), {"run_id": "started"}),
            (Ref(VARIABLE, Key("flow", "", "started"), "v"), {}),
            (Ref(VARIABLE, Key("flow", "", ""), "v"), {}),
            (Ref(HISTORY, KEY, "1"), {"run_id": "r"}),
        )
        for ref, facts in others:
            storage.put(record(ref.key, "other", ref.kind, ref.name, **facts))
        assert storage.delete_run("r") == 9 + 1
        left = {ref for ref, _ in others} - {Ref(RUN, Key("flow", "", "started"), "child")}
        assert set(storage.ids(Query(live_at=0.0))) == left
        assert [ref.kind for ref in storage.ids(Query(run_id="r"))] == [HISTORY]
        assert storage.delete_run("r") == 0
        assert storage.delete_run("never") == 0

    def test_deletes_a_large_run(self, storage: RecordStorage) -> None:
        """Records of a run with more than a page of them stay."""
        storage.put_many([record(key, 1, run_id="r") for key in keys_of(MANY)])
        storage.put_many([record(key, 1, run_id="other") for key in keys_of(10, "other")])
        storage.put_many([record(key, 1, CHECKPOINT, "c") for key in keys_of(100)])
        assert storage.delete_run("r") == MANY + 100
        assert storage.count(Query()) == storage.count(Query(run_id="other")) == 10

    def test_deletes_tasks(self, storage: RecordStorage) -> None:
        """A record of a key stays, or one of another key was deleted."""
        keys = keys_of(100)
        storage.put_many([record(key, 1, run_id="r") for key in keys])
        storage.put_many([record(key, 1, ERROR, "1", expires_at=storage.now() - 1) for key in keys[::2]])
        storage.put(record(Key("other", "task", "1"), 1))
        assert storage.delete_tasks([*keys[:90], keys[0], Key("flow", "task", "never")]) == 135
        assert storage.delete_task(keys[90]) == 2
        left = [Key("other", "task", "1"), *keys[91:]]
        assert {ref.key for ref in storage.ids(Query(live_at=0.0))} == set(left)

    def test_lists_references(self, storage: RecordStorage) -> None:
        """References are not listed as records are."""
        stored = [record(key, 1, ERROR, "é\n", run_id="r") for key in keys_of(7)]
        storage.put_many(stored)
        assert sorted(map(str, storage.ids(Query(run_id="r")))) == sorted(str(one.ref) for one in stored)
        assert list(storage.ids(Query(run_id="never"))) == []


class EmptyingTests(AdapterTests):
    """A storage can be emptied, unless its configuration forbids it."""

    aspect = "emptying"

    def test_clears_what_does_not_survive_it(self, storage: RecordStorage) -> None:
        """``clear`` deleted variables, configuration or history, or kept others."""
        self._fill(storage)
        assert storage.clear() == 7
        assert sorted(ref.kind for ref in storage.ids(Query(live_at=0.0))) == ["configuration", HISTORY, VARIABLE]
        assert storage.clear() == 0

    def test_purges_everything(self, storage: RecordStorage) -> None:
        """``purge`` left something that affects later records."""
        self._fill(storage)
        assert storage.purge() == 10
        assert storage.purge() == 0
        for query in (Query(live_at=0.0), Query(run_id="r", live_at=0.0), Query((CLAIM,)), Query(("piece",))):
            assert list(storage.ids(query)) == []
            assert storage.count(query) == 0
        assert storage.claim(KEY, "lock")
        storage.put(record(KEY, "new", run_id="r"), if_revision=0)
        assert [pipeline.decode(one) for one in storage.records(Query(run_id="r"))] == ["new"]

    def test_purges_a_kind(self, storage: RecordStorage) -> None:
        """Records of the kind stay, even expired ones, or others were deleted."""
        self._fill(storage)
        assert storage.purge(ERROR) == 1
        assert storage.purge("own kind") == 1
        assert storage.purge("never") == 0
        assert storage.count(Query(live_at=0.0)) == 8

    def test_purges_many(self, storage: RecordStorage) -> None:
        """Only the first batch or page was purged."""
        storage.put_many([record(key, 1, run_id=f"r{number % 3}") for number, key in enumerate(keys_of(MANY))])
        assert storage.purge() == MANY
        assert storage.count(Query()) == 0

    def test_refuses_to_be_emptied_where_that_is_forbidden(self, storage: RecordStorage) -> None:
        """The storage was emptied although its configuration forbids it."""
        storage.store("flow", "task", "1", "precious")
        storage.allow_clear = False
        for empty in (storage.clear, storage.purge, lambda: storage.purge(RESULT)):
            with pytest.raises(UnsupportedError, match="allow_clear"):
                empty()
        assert storage.retrieve("flow", "task", "1") == "precious"
        assert storage.cleanup() == 0

    def _fill(self, storage: RecordStorage) -> None:
        storage.store("flow", "task", "1", 1)
        storage.put(record(OTHER, 2, run_id="r"))
        storage.put(record(KEY, "x", ERROR, expires_at=storage.now() - 1))
        storage.put(record(KEY, "x", "own kind"))
        for kind in (VARIABLE, "configuration", HISTORY):
            storage.put(record(KEY, "x", kind, "x"))
        storage.store_blob(KEY, "blob", b"x" * 300_000)
        storage.store_blob(KEY, "empty", b"")
        assert storage.claim(KEY, "lock")


class LimitTests(AdapterTests):
    """``max_result_size`` holds for every way to store a result."""

    aspect = "limits"

    def test_refuses_a_result_that_is_too_large(self, storage: RecordStorage) -> None:
        """A result larger than the limit was stored, or one of its size refused."""
        storage.max_result_size = 20
        storage.store("flow", "task", "1", "x" * 18)
        large = record(OTHER, "x" * 19)
        for store in (
            lambda: storage.store("flow", "task", "other", "x" * 19),
            lambda: storage.put(large),
            lambda: storage.put(large, if_revision=0),
            lambda: storage.put_many([record(Key("flow", "task", "2"), 1), large]),
            lambda: storage.add_many([record(Key("flow", "task", "2"), 1), large]),
        ):
            with pytest.raises(ResultTooLargeError, match="max_result_size"):
                store()
        assert [ref.key for ref in storage.ids(Query())] == [KEY]
        storage.put(record(KEY, "x" * 19, ERROR))


class BystanderTests(AdapterTests):
    """Other programs' data in the same database is left alone."""

    aspect = "foreign data"

    def test_emptying_leaves_others_data_alone(self, storage: RecordStorage, bystander: Bystander | None) -> None:
        """Another program's data was deleted together with flowstore's."""
        other = require_fixture(bystander, "bystander", "foreign data")
        other.leave()
        before = other.left()
        for empty in (storage.purge, storage.clear, lambda: storage.cleanup(0)):
            storage.put_many([record(key, 1, run_id="r", stored_at=1.0) for key in keys_of(20)])
            assert empty() == 20
            assert other.left() == before
