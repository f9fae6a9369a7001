"""Claims, and places that several want to fill: one of them gets it, and all agree on who."""

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
    """Try to be the one that claims, in each round."""
    won = []
    for number in range(ROUNDS):
        barrier.wait()
        won.append(storage.claim(races.round_key(number), "lock", owner=f"worker {worker}"))
    return won


def claim_expired(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Try to be the one that takes over a claim that has expired, in each round."""
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
    """Find or fill the place of each round; return what was there."""
    found = []
    for number in range(ROUNDS):
        barrier.wait()
        found.append(storage.get_or_store(races.round_key(number), [worker, "x" * 1000]))
    return found


def check_agreement(found: list[list[Any]], storage: RecordStorage) -> None:
    """All workers have to have found the value of one of them, and that has to be the one that is stored."""
    for number, of_round in enumerate(zip(*found, strict=True)):
        assert all(one == of_round[0] for one in of_round), f"round {number}: {[one[0] for one in of_round]}"
        stored = storage.get(races.round_key(number))
        assert storage.pipeline.decode(stored) == of_round[0]


class ClaimTests(AdapterTests):
    """A claim excludes others until it is given back or has expired; a place is filled once."""

    aspect = "claims"

    def test_one_claims_until_it_is_released(self, storage: RecordStorage) -> None:
        """A second claim worked, or something else was claimed with it."""
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

    def test_an_owner_claims_again_and_nobody_else_releases(self, storage: RecordStorage) -> None:
        """A redelivered task is locked out of its own claim, or somebody else has given it back."""
        assert storage.claim(KEY, owner="a")
        assert storage.claim(KEY, owner="a")
        for other in ("b", "", None):
            assert not storage.claim(KEY, owner=other)
            assert not storage.release(KEY, owner=other)
        assert storage.release(KEY, owner="a")
        assert storage.claim(KEY, owner="b")

    def test_a_claim_expires(self, storage: RecordStorage) -> None:
        """An owner that is gone keeps everybody out, or one that came back has given back another one's claim."""
        assert storage.claim(KEY, owner="gone", expires_in=0)
        assert not storage.release(KEY, owner="gone")
        assert storage.claim(KEY, owner="next", expires_in="1h")
        assert not storage.claim(KEY, owner="gone")
        assert not storage.release(KEY, owner="gone")
        assert storage.claim(KEY, owner="next", expires_in=0), "claiming again begins the time anew"
        assert storage.claim(KEY, owner="last")

    def test_a_claim_whose_answer_was_lost_is_the_callers(self, storage: RecordStorage) -> None:
        """The same attempt made again is told that somebody else has it, who is nobody but itself."""
        assert storage.claim(KEY, token="one attempt")
        assert storage.claim(KEY, token="one attempt")
        assert not storage.claim(KEY, token="another attempt")

    @pytest.mark.parametrize("value", RICH_VALUES, ids=repr)
    def test_fills_a_place_once(self, storage: RecordStorage, value: object) -> None:
        """A default replaces what is stored, or is not what comes back; reading alone has stored something."""
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
        """Somebody changed what was given out, and with it the default or what is stored."""
        default: list[int] = [1]
        storage.get_or_store(KEY, default).append(2)
        assert default == [1]
        assert storage.get_or_store(KEY, default) == [1]

    def test_adds_many_where_nothing_is(self, storage: RecordStorage) -> None:
        """A batch has replaced what was there, has not replaced what had expired, or tells the wrong ones apart."""
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
    """Of several threads, one claims, and all agree on what fills a place."""

    aspect = "threads"

    def test_one_thread_claims(self, storage: RecordStorage) -> None:
        """Two threads are told that they have it: looking and writing are not one step."""
        races.check_winners(in_threads(partial(claim, storage), self.deadline))

    def test_one_thread_takes_over_an_expired_claim(self, storage: RecordStorage) -> None:
        """That a claim has expired is found out in another step than replacing it."""
        races.check_winners(in_threads(partial(claim_expired, storage), self.deadline))

    def test_threads_agree_on_what_fills_a_place(self, storage: RecordStorage) -> None:
        """Two threads stored a value, or one has gone on with its own though another's is stored."""
        found = in_threads(partial(fill, storage), self.deadline)
        assert len(found) == THREADS
        check_agreement(found, storage)

    def test_threads_add_the_same_batch(self, storage: RecordStorage) -> None:
        """Of records that several add at once, each is stored by exactly one of them."""

        def add(barrier: Any, worker: int) -> list[bool]:
            given = [record(key, worker) for key in (races.BATCH if worker % 2 else races.BATCH[::-1])]
            barrier.wait()
            won = {one.key for one, current in zip(given, storage.add_many(given), strict=True) if current is None}
            return [key in won for key in races.BATCH]

        won = in_threads(add, self.deadline)
        assert [sum(of_record) for of_record in zip(*won, strict=True)] == [1] * len(races.BATCH)


class ProcessClaimTests(AdapterTests):
    """Of several processes, one claims, and all agree on what fills a place."""

    aspect = "processes"

    def test_one_process_claims(self, adapter: Adapter) -> None:
        """Two processes are told that they have it: looking and writing are not one step of the database."""
        races.check_winners(in_processes(adapter, partial(races.open_and, work=claim), self.deadline))

    def test_one_process_takes_over_an_expired_claim(self, adapter: Adapter) -> None:
        """That a claim has expired is found out in another step than replacing it."""
        races.check_winners(in_processes(adapter, partial(races.open_and, work=claim_expired), self.deadline))

    def test_processes_agree_on_what_fills_a_place(self, adapter: Adapter, storage: RecordStorage) -> None:
        """Two processes stored a value, or one has gone on with its own though another's is stored."""
        found = in_processes(adapter, partial(races.open_and, work=fill), self.deadline)
        assert len(found) == PROCESSES
        check_agreement(found, storage)
