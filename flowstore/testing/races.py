"""What the concurrency tests do in each thread or process, and what has to come out."""

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
    """Try to be the one that stores, in each round; tell whether it worked."""
    return [wins(storage, barrier, round_key(number), worker, 0) for number in range(ROUNDS)]


def compare_and_set(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Try to be the one that replaces the revision of each round."""
    first = storage.get(KEY).revision
    return [wins(storage, barrier, KEY, worker, first + number) for number in range(ROUNDS)]


def delete_one(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Try to be the one that deletes the record of each round."""
    won = []
    for number in range(ROUNDS):
        barrier.wait()
        won.append(storage.delete(round_key(number)))
    return won


def delete_revision(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    """Try to be the one that deletes the revision of each round, which everybody knows."""
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
    """Replace one record again and again; return the revisions."""
    barrier.wait()
    return [storage.put(record(KEY, [worker, number])).revision for number in range(ROUNDS)]


def put_batches(storage: RecordStorage, barrier: Any, worker: int) -> list[int]:
    """Store the same batch again and again, every other worker from its end; return the revisions of all."""
    keys = BATCH if worker % 2 else BATCH[::-1]
    revisions = []
    for _ in range(ROUNDS // 4):
        barrier.wait()
        revisions += [one.revision for one in storage.put_many([record(key, worker, run_id="r") for key in keys])]
    return revisions


def store_and_retrieve(storage: Any, barrier: Any, worker: int) -> list[object]:
    """Store and retrieve values of this worker's own; return what was found that is another's."""
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
    """Try to be the one that stores in a round; tell whether it worked."""
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
    """Exactly one worker has to win each round."""
    winners = [sum(one_round) for one_round in zip(*won, strict=True)]
    assert winners == [1] * ROUNDS, f"winners of each round: {winners}; each number has to be 1"


def check_revisions(revisions: list[list[int]], storage: RecordStorage) -> None:
    """No revision may be given twice, and each worker's have to grow."""
    assert all(mine == sorted(mine) for mine in revisions), "a revision went back"
    given = sorted(chain.from_iterable(revisions))
    assert given == list(range(given[0], given[0] + len(revisions) * ROUNDS))
    assert storage.get(KEY).revision == given[-1]


def check_batches(revisions: list[list[int]], storage: RecordStorage) -> None:
    """Each record of the batch has to be written once by each worker and round."""
    times = len(revisions) * (ROUNDS // 4)
    found = storage.get_many([Ref(RESULT, key) for key in BATCH])
    last = [one.revision if one else 0 for one in found]
    assert sorted(chain.from_iterable(revisions)) == sorted(at - number for at in last for number in range(times))


def open_and(adapter: Adapter, barrier: Any, worker: int, *, work: Any) -> Any:
    """Do a worker's part with an instance of its own."""
    with adapter.opened() as storage:
        return work(storage, barrier, worker)


def connect_and_store(adapter: Adapter, barrier: Any, worker: int) -> object:
    """Be among the first ones that ever connect, and store."""
    barrier.wait()
    with adapter.opened() as storage:
        storage.store("flow", "task", str(worker), worker)
        return storage.retrieve("flow", "task", str(worker))
