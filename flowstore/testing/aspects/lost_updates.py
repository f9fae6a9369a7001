"""Lost updates: writes between the read and the write of an operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.record import CLAIM, ERROR, RESULT, Key, Page, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.testing import races
from flowstore.testing.aspects.expiry import HOUR
from flowstore.testing.base import AdapterTests
from flowstore.testing.concurrency import ROUNDS, in_threads
from flowstore.testing.samples import KEY, record

DELETES: dict[str, Callable[[RecordStorage], int]] = {
    "cleanup": lambda storage: storage.cleanup(),
    "cleanup by age": lambda storage: storage.cleanup(HOUR),
    "clear": lambda storage: storage.clear(),
    "purge of a kind": lambda storage: storage.purge(RESULT),
    "delete_run": lambda storage: storage.delete_run("r"),
    "delete_task": lambda storage: storage.delete_task(KEY),
}

OVERTAKES: dict[str, Callable[[RecordStorage, Record], object]] = {
    "replaced": lambda storage, new: storage.put(new),
    "deleted and stored anew": lambda storage, new: (storage.delete(KEY), storage.put(new, if_revision=0)),
    "replaced in a batch": lambda storage, new: storage.put_many([new]),
}


class LostUpdateTests(AdapterTests):
    """Only the revision that was read is deleted, never a later one."""

    aspect = "cleanup"

    @pytest.mark.parametrize("overtakes", OVERTAKES)
    @pytest.mark.parametrize("deletes", DELETES)
    def test_what_was_stored_after_the_look_stays(
        self, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch, deletes: str, overtakes: str
    ) -> None:
        """An acknowledged write was deleted.

        ``_delete_seen`` must compare the revision.
        """
        past = storage.now() - 2 * HOUR
        storage.put(record(KEY, "old", run_id="r", stored_at=past, expires_at=past))
        beside = Key("flow", "task", "beside")
        storage.put(record(beside, "old", run_id="r", stored_at=past, expires_at=past))
        done: list[str] = []

        def followed(look: Callable[..., Page]) -> Callable[..., Page]:
            def looked(*arguments: Any) -> Page:
                page = look(*arguments)
                if any(one.key == KEY and one.kind == RESULT for one in page.records) and not done:
                    done.append(overtakes)
                    OVERTAKES[overtakes](storage, record(KEY, "new", run_id="new"))
                return page

            return looked

        for name in ("_scan", "_scan_doomed"):
            monkeypatch.setattr(storage, name, followed(getattr(storage, name)))
        deleted = DELETES[deletes](storage)
        monkeypatch.undo()
        assert done == [overtakes]
        assert storage.retrieve("flow", "task", "1") == "new"
        assert deleted == (0 if deletes == "delete_task" else 1), "the others are deleted, and counted"

    def test_a_claim_that_was_taken_over_has_one_owner(self, storage: RecordStorage) -> None:
        """A cleanup deleted a claim that was taken over, so that two hold it."""
        storage.put(record(KEY, None, CLAIM, owner="gone", expires_at=storage.now() - HOUR))

        def taken(head: Record) -> bool:
            assert storage.claim(KEY, owner="next", expires_in=HOUR)
            return False

        assert storage.cleanup(keep=taken) == 0
        assert not storage.claim(KEY, owner="third", expires_in=HOUR)

    def test_a_release_leaves_another_ones_claim_alone(
        self, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A release deleted another owner's claim.

        The first claim was released and taken between the read and the delete.
        """
        assert storage.claim(KEY, owner="first")
        delete = storage.delete

        def meanwhile(*arguments: Any, **options: Any) -> bool:
            monkeypatch.undo()
            delete(KEY, CLAIM)
            assert storage.claim(KEY, owner="second")
            return delete(*arguments, **options)

        monkeypatch.setattr(storage, "delete", meanwhile)
        assert not storage.release(KEY, owner="first")
        assert not storage.claim(KEY, owner="third")

    def test_large_values_stay_whole(self, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cleanup deleted the payload of a value that replaced an expired one."""
        storage.blob_threshold = 1000
        past = storage.now() - HOUR
        storage.put(record(KEY, "o" * 5000, expires_at=past))

        def replaced(head: Record) -> bool:
            storage.put(record(KEY, "n" * 6000))
            return False

        assert storage.cleanup(keep=replaced) == 0
        assert storage.retrieve("flow", "task", "1") == "n" * 6000

    def test_deletes_many_that_were_seen(self, storage: RecordStorage) -> None:
        """A batch deleted later revisions, kept others, or the count is wrong."""
        keys = [Key("flow", "task", str(number)) for number in range(1203)]
        seen = storage.put_many([record(key, 1, run_id="r") for key in keys])
        changed = keys[::100]
        storage.put_many([record(key, 2, run_id="r") for key in changed])
        missing = record(Key("flow", "other", "1"), 1).at(seen[0].revision)
        assert storage.delete_seen([missing, *seen]) == len(keys) - len(changed)
        assert storage.delete_seen(seen) == 0
        assert storage.delete_seen([]) == 0
        assert {one.key for one in storage.records(Query(run_id="r"))} == set(changed)


class ExecutionTests(AdapterTests):
    """An earlier execution of a task never replaces a later one's record."""

    aspect = "revisions"

    @pytest.mark.parametrize("kind", [RESULT, ERROR])
    @pytest.mark.parametrize("size", [1, 5000], ids=["small", "large"])
    def test_an_earlier_execution_never_replaces_a_later_one(
        self, storage: RecordStorage, kind: str, size: int
    ) -> None:
        """A task that was delivered again has its first execution's result.

        The second execution ended before the first.
        """
        storage.blob_threshold = 1000

        def gives(attempt: int, started_at: float) -> Record:
            return record(KEY, f"{attempt}, {started_at}" * size, kind, attempt=attempt, started_at=started_at)

        def stored() -> object:
            return pipeline.decode(storage.get(KEY, kind))

        second = gives(1, 20.0)
        assert storage.put_latest(second) is None
        assert storage.put_latest(second) is None, "the same write, tried again"
        later = storage.put_latest(gives(1, 10.0))
        assert later is not None
        assert (later.payload, later.headers["started_at"]) == (b"", 20.0)
        assert stored() == "1, 20.0" * size
        retried = gives(2, 15.0)  # by a clock that is slow
        assert storage.put_latest(retried) is None
        assert storage.put_latest(gives(1, 12.0)) is not None
        assert stored() == "2, 15.0" * size
        assert storage.put_latest(gives(1, 90.0)) is None, "it was started by hand, long afterwards"
        assert storage.put_latest(record(KEY, "by a program", kind)) is None
        assert stored() == "by a program"

    def test_of_many_executions_at_once_the_latest_stays(self, storage: RecordStorage) -> None:
        """Comparing executions and storing are two steps."""

        def execute(barrier: Any, worker: int) -> None:
            for number in range(ROUNDS):
                one = record(races.round_key(number), worker, attempt=1, started_at=float((worker + number) % 8))
                barrier.wait()
                storage.put_latest(one)

        in_threads(execute, self.deadline)
        found = storage.get_many([Ref(RESULT, races.round_key(number)) for number in range(ROUNDS)])
        latest = [None if one is None else one.headers["started_at"] for one in found]
        assert latest == [7.0] * ROUNDS
