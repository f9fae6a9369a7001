"""Exclusive claims and put-if-absent."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from flowstore.errors import NotFoundError
from flowstore.record import CLAIM, Key, Query
from flowstore.storage import RecordStorage
from flowstore.testing import races
from flowstore.testing.aspects.expiry import HOUR
from flowstore.testing.base import Adapter, AdapterTests
from flowstore.testing.concurrency import PROCESSES, ROUNDS, THREADS, in_processes, in_threads
from flowstore.testing.samples import KEY, RICH_VALUES, record


def claim(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Compete for a claim in each round; return which rounds were won."""
    won = []
    for number in range(ROUNDS):
        barrier.wait()
        won.append(storage.claim(races.round_key(number), "lock", owner=f"worker {worker}"))
    return won


def claim_expired(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Compete for an expired claim in each round; return which were won."""
    won = []
    for number in range(ROUNDS):
        key = races.round_key(number)
        if worker == 0:
            # Long enough ago for processes whose measures of the server's clock differ a little.
            storage.put(record(key, None, CLAIM, "lock", owner="gone", expires_at=storage.now() - HOUR))
        barrier.wait()
        won.append(storage.claim(key, "lock", expires_in=HOUR))
        barrier.wait()
    return won


def fill(storage: RecordStorage, barrier: Any, worker: int) -> list[object]:
    """Get or store a value in each round; return what was there."""
    found = []
    for number in range(ROUNDS):
        barrier.wait()
        found.append(storage.get_or_store(races.round_key(number), [worker, "x" * 1000]))
    return found


def check_agreement(found: list[list[Any]], storage: RecordStorage) -> None:
    """Check that all workers got the same value, and that it is stored."""
    for number, of_round in enumerate(zip(*found, strict=True)):
        assert all(one == of_round[0] for one in of_round), f"round {number}: {[one[0] for one in of_round]}"
        stored = storage.get(races.round_key(number))
        assert storage.pipeline.decode(stored) == of_round[0]


class ClaimTests(AdapterTests):
    """A claim is exclusive until it is released or expires."""

    aspect = "claims"

    def test_one_claims_until_it_is_released(self, storage: RecordStorage) -> None:
        """A second claim succeeded, or a claim blocked another key or name."""
        assert storage.claim(KEY)
        assert not storage.claim(KEY)
        assert storage.claim(KEY, "other")
        assert storage.claim(Key("flow", "task", "2"))
        assert storage.release(KEY)
        assert not storage.release(KEY)
        assert not storage.claim(KEY, "other")
        assert storage.claim(KEY)
        with pytest.raises(NotFoundError):
            storage.get(KEY)

    def test_only_the_owner_claims_again_and_releases(self, storage: RecordStorage) -> None:
        """An owner is locked out of its claim, or another owner released it.

        A task that is delivered again claims with the same owner.
        """
        assert storage.claim(KEY, owner="a")
        assert storage.claim(KEY, owner="a")
        for other in ("b", "", None):
            assert not storage.claim(KEY, owner=other)
            assert not storage.release(KEY, owner=other)
        assert storage.release(KEY, owner="a")
        assert storage.claim(KEY, owner="b")

    def test_a_claim_expires(self, storage: RecordStorage) -> None:
        """An expired claim still blocks, or its old owner released a new claim."""
        assert storage.claim(KEY, owner="gone", expires_in=0)
        assert not storage.release(KEY, owner="gone")
        assert storage.claim(KEY, owner="next", expires_in="1h")
        assert not storage.claim(KEY, owner="gone")
        assert not storage.release(KEY, owner="gone")
        assert storage.claim(KEY, owner="next", expires_in=0), "claiming again begins the time anew"
        assert storage.claim(KEY, owner="last")

    def test_a_claim_whose_answer_was_lost_is_the_callers(self, storage: RecordStorage) -> None:
        """A repeated attempt fails because of its first try.

        The answer to the first try was lost; the token identifies the attempt.
        """
        assert storage.claim(KEY, token="one attempt")
        assert storage.claim(KEY, token="one attempt")
        assert not storage.claim(KEY, token="another attempt")

    @pytest.mark.parametrize("value", RICH_VALUES, ids=repr)
    def test_fills_a_place_once(self, storage: RecordStorage, value: object) -> None:
        """A default replaced a stored value, or reading alone stored something."""
        with pytest.raises(NotFoundError):
            storage.retrieve("flow", "task", "1")
        assert storage.count(Query()) == 0
        assert storage.get_or_store(KEY, value) == value
        assert storage.get_or_store(KEY, "other") == value
        assert storage.retrieve("flow", "task", "1") == value
        assert storage.get_or_store(KEY, lambda: "made", name="x") == "made"
        assert storage.get_or_store(KEY, pytest.fail, name="x") == "made", "what is there need not be made"
        storage.put(record(KEY, "expired", name="y", expires_at=storage.now() - 1))
        assert storage.get_or_store(KEY, None, name="y") is None
        assert storage.get_or_store(KEY, "other", name="y") is None

    def test_gives_each_caller_a_value_of_its_own(self, storage: RecordStorage) -> None:
        """A change to a returned value reached the default or the stored value."""
        default: list[int] = [1]
        storage.get_or_store(KEY, default).append(2)
        assert default == [1]
        assert storage.get_or_store(KEY, default) == [1]

    def test_adds_many_where_nothing_is(self, storage: RecordStorage) -> None:
        """A batch replaced live records, kept expired ones, or mixed them up."""
        keys = [races.round_key(number) for number in range(10)]
        standing = storage.put(record(keys[1], "standing"))
        storage.put(record(keys[2], "expired", expires_at=storage.now() - 1))
        mine = record(keys[3], "mine")
        storage.put(mine)
        given = [record(keys[0], 0), record(keys[1], 1), record(keys[2], 2), mine, record(keys[4], 4)]
        assert storage.add_many(given) == [None, standing, None, None, None]
        found = [storage.pipeline.decode(storage.get(key)) for key in keys[:5]]
        assert found == [0, "standing", 2, "mine", 4]
        assert storage.add_many([]) == []
        with pytest.raises(ValueError, match="same reference"):
            storage.add_many([given[0], record(keys[0], 9)])


class ThreadClaimTests(AdapterTests):
    """One thread wins a claim, and all threads agree on a stored value."""

    aspect = "threads"

    def test_one_thread_claims(self, storage: RecordStorage) -> None:
        """Two threads hold the same claim: checking and writing are two steps."""
        races.check_winners(in_threads(partial(claim, storage), self.deadline))

    def test_one_thread_takes_over_an_expired_claim(self, storage: RecordStorage) -> None:
        """Two threads took over an expired claim: the check is another step."""
        races.check_winners(in_threads(partial(claim_expired, storage), self.deadline))

    def test_threads_agree_on_what_fills_a_place(self, storage: RecordStorage) -> None:
        """Two threads stored a value, or one got a value that is not stored."""
        found = in_threads(partial(fill, storage), self.deadline)
        assert len(found) == THREADS
        check_agreement(found, storage)

    def test_threads_add_the_same_batch(self, storage: RecordStorage) -> None:
        """A record that several threads add was stored by more than one."""

        def add(barrier: Any, worker: int) -> list[bool]:
            given = [record(key, worker) for key in (races.BATCH if worker % 2 else races.BATCH[::-1])]
            barrier.wait()
            won = {one.key for one, current in zip(given, storage.add_many(given), strict=True) if current is None}
            return [key in won for key in races.BATCH]

        won = in_threads(add, self.deadline)
        assert [sum(of_record) for of_record in zip(*won, strict=True)] == [1] * len(races.BATCH)


class ProcessClaimTests(AdapterTests):
    """One process wins a claim, and all processes agree on a stored value."""

    aspect = "processes"

    def test_one_process_claims(self, adapter: Adapter) -> None:
        """Two processes hold a claim: checking and writing are two steps."""
        races.check_winners(in_processes(adapter, partial(races.open_and, work=claim), self.deadline))

    def test_one_process_takes_over_an_expired_claim(self, adapter: Adapter) -> None:
        """Two processes took over an expired claim: the check is another step."""
        races.check_winners(in_processes(adapter, partial(races.open_and, work=claim_expired), self.deadline))

    def test_processes_agree_on_what_fills_a_place(self, adapter: Adapter, storage: RecordStorage) -> None:
        """Two processes stored a value, or one got a value that is not stored."""
        found = in_processes(adapter, partial(races.open_and, work=fill), self.deadline)
        assert len(found) == PROCESSES
        check_agreement(found, storage)
