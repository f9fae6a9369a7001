"""The work of concurrent workers, and checks of the outcome."""

from __future__ import annotations

from itertools import chain
from typing import Any

from flowstore.errors import ConflictError
from flowstore.record import RESULT, Key, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.base import Adapter
from flowstore.testing.concurrency import ROUNDS
from flowstore.testing.samples import KEY, record

BATCH = [Key("flow", "batch", str(number)) for number in range(40)]


def round_key(number: int) -> Key:
    """Return the key of a round."""
    return Key("flow", "task", str(number))


def put_if_absent(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Compete to store first in each round; return which rounds were won."""
    return [wins(storage, barrier, round_key(number), worker, 0) for number in range(ROUNDS)]


def compare_and_set(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Compete to replace a revision in each round; return which were won."""
    first = storage.get(KEY).revision
    return [wins(storage, barrier, KEY, worker, first + number) for number in range(ROUNDS)]


def delete_one(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Compete to delete a record in each round; return which were won."""
    won = []
    for number in range(ROUNDS):
        barrier.wait()
        won.append(storage.delete(round_key(number)))
    return won


def delete_revision(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Compete to delete a revision in each round; return which were won."""
    refs = [Ref(RESULT, round_key(number)) for number in range(ROUNDS)]
    revisions = [one.revision if one else 0 for one in storage.get_many(refs)]
    won = []
    barrier.wait()
    for number, revision in enumerate(revisions):
        barrier.wait()
        try:
            won.append(storage.delete(round_key(number), if_revision=revision))
        except ConflictError:
            won.append(False)
    return won


def fill_rounds(storage: RecordStorage) -> None:
    """Store a record for each round."""
    storage.put_many([record(round_key(number), "x", run_id="r") for number in range(ROUNDS)])


def put_always(storage: RecordStorage, barrier: Any, worker: int) -> list[int]:
    """Replace one record repeatedly; return the revisions."""
    barrier.wait()
    return [storage.put(record(KEY, [worker, number])).revision for number in range(ROUNDS)]


def put_batches(storage: RecordStorage, barrier: Any, worker: int) -> list[int]:
    """Store the same batch repeatedly; return the revisions.

    Every other worker stores it in reverse.
    """
    keys = BATCH if worker % 2 else BATCH[::-1]
    revisions = []
    for _ in range(ROUNDS // 4):
        barrier.wait()
        revisions += [one.revision for one in storage.put_many([record(key, worker, run_id="r") for key in keys])]
    return revisions


def store_and_retrieve(storage: Any, barrier: Any, worker: int) -> list[object]:
    """Store and retrieve values; return those of other workers that came."""
    wrong: list[object] = []
    for number in range(ROUNDS):
        barrier.wait()
        value = {"worker": worker, "filler": str(worker) * (worker * 997)}
        storage.store("flow", f"task {worker}", str(number), value)
        found = storage.retrieve("flow", f"task {worker}", str(number))
        if found != value:
            wrong.append(found)
    return wrong


def wins(storage: RecordStorage, barrier: Any, key: Key, worker: int, if_revision: int) -> bool:
    """Compete to store in a round; return whether this worker won."""
    barrier.wait()
    try:
        storage.put(record(key, worker), if_revision=if_revision)
    except ConflictError:
        won = False
    else:
        won = True
    barrier.wait()
    return won


def fill_expired(storage: RecordStorage) -> None:
    """Store an expired record for each round."""
    past = storage.now() - 1
    storage.put_many([record(round_key(number), "expired", expires_at=past) for number in range(ROUNDS)])


def check_winners(won: list[list[bool]]) -> None:
    """Check that exactly one worker won each round."""
    winners = [sum(one_round) for one_round in zip(*won, strict=True)]
    assert winners == [1] * ROUNDS, f"winners of each round: {winners}; each must be 1"


def check_revisions(revisions: list[list[int]], storage: RecordStorage) -> None:
    """Check that no revision was given twice, and that each worker's grow."""
    assert all(mine == sorted(mine) for mine in revisions), "a revision went back"
    given = sorted(chain.from_iterable(revisions))
    assert given == list(range(given[0], given[0] + len(revisions) * ROUNDS))
    assert storage.get(KEY).revision == given[-1]


def check_batches(revisions: list[list[int]], storage: RecordStorage) -> None:
    """Check that each record was written once per worker and round."""
    times = len(revisions) * (ROUNDS // 4)
    found = storage.get_many([Ref(RESULT, key) for key in BATCH])
    last = [one.revision if one else 0 for one in found]
    assert sorted(chain.from_iterable(revisions)) == sorted(at - number for at in last for number in range(times))


def open_and(adapter: Adapter, barrier: Any, worker: int, *, work: Any) -> Any:
    """Do a worker's work with a new instance."""
    with adapter.opened() as storage:
        return work(storage, barrier, worker)


def connect_and_store(adapter: Adapter, barrier: Any, worker: int) -> object:
    """Connect at the same time as all others, and store."""
    barrier.wait()
    with adapter.opened() as storage:
        storage.store("flow", "task", str(worker), worker)
        return storage.retrieve("flow", "task", str(worker))
