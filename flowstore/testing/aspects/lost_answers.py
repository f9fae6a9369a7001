"""Lost answers: the server did the work, but the client got no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import OutcomeUnknownError, UnreachableError
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.aspects.faults import READS, again
from flowstore.testing.base import AdapterTests, LostAnswer, require_fixture
from flowstore.testing.samples import KEY, record

OTHER = Key("flow", "task", "2")


class LostAnswerTests(AdapterTests):
    """A write whose answer is lost is done once at most.

    It is not reported as not done.
    """

    aspect = "faults"

    @pytest.fixture
    def lose(self, storage: RecordStorage, lost_answer: LostAnswer | None) -> Callable[[], None]:
        """Return a function that loses the next answer of a connected storage."""
        given = require_fixture(lost_answer, "lost_answer", "faults")
        storage.put(record(KEY, "old", run_id="r"))
        return given.lose

    @pytest.mark.parametrize("operation", ["get", "get_many", "scan", "count"])
    def test_a_read_whose_answer_is_lost_changes_nothing(
        self, storage: RecordStorage, lose: Callable[[], None], operation: str
    ) -> None:
        """A failed read raised OutcomeUnknownError.

        Nothing was being written, so the caller has nothing to check.
        """
        expected = READS[operation](storage)
        lose()
        error = _error_of(lambda: READS[operation](storage))
        assert not isinstance(error, OutcomeUnknownError), "nothing was being written"
        assert again(lambda: READS[operation](storage), self.deadline) == expected

    @pytest.mark.parametrize("condition", ["always", "this revision"])
    def test_a_replacement_whose_answer_is_lost_is_done_once(
        self, storage: RecordStorage, lose: Callable[[], None], condition: str
    ) -> None:
        """A write was done twice, or conflicts with itself.

        The driver repeated it.
        """
        before, mine = storage.get(KEY), record(KEY, "mine")
        if_revision = None if condition == "always" else before.revision
        lose()
        error = _error_of(lambda: storage.put(mine, if_revision=if_revision))
        found = again(lambda: storage.get(KEY), self.deadline)
        assert found.revision - before.revision in (0, 1), "the write was done more than once"
        _check(error, found.revision == before.revision)
        if if_revision is not None:
            stored = again(lambda: storage.put(mine, if_revision=if_revision), self.deadline)
            assert stored.revision == before.revision + 1
            assert pipeline.decode(storage.get(KEY)) == "mine"

    def test_a_first_write_whose_answer_is_lost_is_no_conflict_with_itself(
        self, storage: RecordStorage, lose: Callable[[], None]
    ) -> None:
        """A repeated put-if-absent conflicts with its first try."""
        mine = record(OTHER, "mine")
        lose()
        error = _error_of(lambda: storage.put(mine, if_revision=0))
        found = again(lambda: storage.get_many([mine.ref]), self.deadline)[0]
        _check(error, found is None)
        stored = again(lambda: storage.put(mine, if_revision=0), self.deadline)
        assert found is None or stored.revision == found.revision
        assert pipeline.decode(storage.get(OTHER)) == "mine"

    def test_a_batch_whose_answer_is_lost_can_be_added_again(
        self, storage: RecordStorage, lose: Callable[[], None]
    ) -> None:
        """A repeated batch reports its own records as others'.

        Or it reports records as stored that are not.
        """
        batch = [record(Key("flow", "batch", str(number)), number) for number in range(5)]
        lose()
        error = _error_of(lambda: storage.add_many(batch))
        _check(error, storage.count(Query(task_name="batch")) == 0)
        assert again(lambda: storage.add_many(batch), self.deadline) == [None] * 5
        found = storage.get_many([one.ref for one in batch])
        assert [one and pipeline.decode(one) for one in found] == list(range(5))

    @pytest.mark.parametrize("condition", ["always", "this revision"])
    def test_a_deletion_whose_answer_is_lost_can_be_repeated(
        self, storage: RecordStorage, lose: Callable[[], None], condition: str
    ) -> None:
        """A delete is reported as not done, or conflicts when it is repeated."""
        if_revision = None if condition == "always" else storage.get(KEY).revision
        lose()
        error = _error_of(lambda: storage.delete(KEY, if_revision=if_revision))
        found: list[Record | None] = again(lambda: storage.get_many([Ref(RESULT, KEY)]), self.deadline)
        _check(error, found[0] is not None)
        deleted = again(lambda: storage.delete(KEY, if_revision=if_revision), self.deadline)
        assert deleted == (found[0] is not None)
        assert storage.count(Query()) == 0


def _error_of(operation: Callable[[], Any]) -> UnreachableError | None:
    """Return the error of an operation, or ``None`` if it succeeded."""
    try:
        operation()
    except UnreachableError as exc:
        return exc
    return None


def _check(error: UnreachableError | None, nothing_done: bool) -> None:
    if error is None:
        assert not nothing_done, "the operation reported success, but did nothing"
    elif not isinstance(error, OutcomeUnknownError):
        assert nothing_done, f"the write was done, but reported as not done: {error!r} is not an OutcomeUnknownError"
