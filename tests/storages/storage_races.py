"""The contract under concurrency, as tests that each adapter's class inherits."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from flowstore import pipeline
from flowstore.errors import ConflictError
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storage import RecordStorage
from tests.storages.storage_kit import Recipe, in_child, opened, record, wait_for

T = TypeVar("T")

THREADS = 8
PROCESSES = 8
ROUNDS = 20
KEY = Key("flow", "task", "1")


def put_if_absent(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    return [_wins(storage, barrier, Key("flow", "absent", str(number)), worker, 0) for number in range(ROUNDS)]


def compare_and_set(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    return [_wins(storage, barrier, KEY, worker, number + 1) for number in range(ROUNDS)]


def _wins(storage: RecordStorage, barrier: Any, key: Key, worker: int, if_revision: int) -> bool:
    barrier.wait(60)
    try:
        storage.put(record(key, worker), if_revision=if_revision)
    except ConflictError:
        won = False
    else:
        won = True
    barrier.wait(60)
    return won


def put_always(storage: RecordStorage, barrier: Any, worker: int) -> list[int]:
    barrier.wait(60)
    return [storage.put(record(KEY, [worker, number])).revision for number in range(ROUNDS)]


def create_and_store(recipe: Recipe, barrier: Any, worker: int) -> list[int]:
    done = []
    for number in range(ROUNDS):
        barrier.wait(60)
        with opened(_variant(recipe, number)) as storage:
            storage.store("flow", "task", str(worker), number)
            done.append(storage.retrieve("flow", "task", str(worker)))
    return done


def _variant(recipe: Recipe, number: int) -> Recipe:
    """Return a recipe for another place."""
    name, configuration = recipe
    return name, {
        field: value.replace("records", f"records{number}") if isinstance(value, str) else value
        for field, value in configuration.items()
    }


def in_threads(storage: RecordStorage, work: Callable[[RecordStorage, Any, int], list[T]]) -> list[list[T]]:
    barrier = threading.Barrier(THREADS)
    interval = sys.getswitchinterval()
    # Change threads as often as possible: else each would be done before the next one begins.
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return [f.result() for f in [pool.submit(work, storage, barrier, worker) for worker in range(THREADS)]]
    finally:
        sys.setswitchinterval(interval)


_barrier: Any = None


def _start(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _work(recipe: Recipe, work: Callable[[Recipe, Any, int], list[T]], worker: int) -> list[T]:
    return work(recipe, _barrier, worker)


def _with_storage(
    work: Callable[[RecordStorage, Any, int], list[T]], recipe: Recipe, barrier: Any, worker: int
) -> list[T]:
    with opened(recipe) as storage:
        return work(storage, barrier, worker)


def in_processes(recipe: Recipe, work: Callable[[Recipe, Any, int], list[T]]) -> list[list[T]]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, _start, (barrier,)) as pool:
        return [f.result() for f in [pool.submit(_work, recipe, work, worker) for worker in range(PROCESSES)]]


def check_winners(won: list[list[bool]]) -> None:
    winners = [sum(one_round) for one_round in zip(*won, strict=True)]
    print(f"{len(winners)} rounds, {sum(count != 1 for count in winners)} with winners != 1")
    assert winners == [1] * ROUNDS


def check_revisions(revisions: list[list[int]], storage: RecordStorage) -> None:
    assert all(mine == sorted(mine) for mine in revisions)
    assert sorted(chain.from_iterable(revisions)) == list(range(1, len(revisions) * ROUNDS + 1))
    assert storage.get(KEY).revision == len(revisions) * ROUNDS


class ThreadRaces:
    """One instance serves all threads of a process."""

    child_sees_what_its_parent_stored = True

    def test_one_thread_stores_if_there_is_none(self, storage: RecordStorage) -> None:
        check_winners(in_threads(storage, put_if_absent))

    def test_one_thread_replaces_a_revision(self, storage: RecordStorage) -> None:
        storage.put(record(KEY, "start"))
        check_winners(in_threads(storage, compare_and_set))

    def test_threads_get_revisions_of_their_own(self, storage: RecordStorage) -> None:
        check_revisions(in_threads(storage, put_always), storage)

    def test_one_thread_deletes(self, storage: RecordStorage) -> None:
        keys = [Key("flow", "task", str(number)) for number in range(ROUNDS)]
        for key in keys:
            storage.put(record(key, "x", run_id="r"))

        def delete(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
            return [(barrier.wait(60), storage.delete(key))[1] for key in keys]

        check_winners(in_threads(storage, delete))

    def test_a_forked_child_goes_on_with_what_its_parent_connected(self, storage: RecordStorage) -> None:
        storage.store("flow", "task", "before", "parent")

        def work() -> None:
            if not storage.is_connected():
                storage.connect()
            for number in range(20):
                storage.store("flow", "child", str(number), number)
                assert storage.retrieve("flow", "child", str(number)) == number
            found = storage.get_many([Ref(RESULT, Key("flow", "task", "before"))])
            assert (found != [None]) == self.child_sees_what_its_parent_stored
            storage.disconnect()

        pid = in_child(work)
        for number in range(20):
            storage.store("flow", "parent", str(number), number)
            assert storage.retrieve("flow", "parent", str(number)) == number
        wait_for(pid)
        storage.store("flow", "task", "after", "parent")
        assert storage.retrieve("flow", "task", "after") == "parent"
        self.check_after_fork(storage)

    def check_after_fork(self, storage: RecordStorage) -> None:
        assert storage.scan(Query(task_name="child")).records == []


class ProcessRaces(ThreadRaces):
    """What one process stores, all others of the machine see."""

    def check_after_fork(self, storage: RecordStorage) -> None:
        assert [pipeline.decode(one) for one in storage.records(Query(task_name="child"))] == list(range(20))

    def test_one_process_stores_if_there_is_none(self, recipe: Recipe) -> None:
        check_winners(in_processes(recipe, partial(_with_storage, put_if_absent)))

    def test_one_process_replaces_a_revision(self, recipe: Recipe, storage: RecordStorage) -> None:
        storage.put(record(KEY, "start"))
        check_winners(in_processes(recipe, partial(_with_storage, compare_and_set)))

    def test_processes_get_revisions_of_their_own(self, recipe: Recipe) -> None:
        revisions = in_processes(recipe, partial(_with_storage, put_always))
        with opened(recipe) as storage:
            check_revisions(revisions, storage)

    def test_processes_create_it_together(self, recipe: Recipe) -> None:
        numbers = in_processes(recipe, create_and_store)
        assert numbers == [list(range(ROUNDS))] * PROCESSES
        for number in range(ROUNDS):
            with opened(_variant(recipe, number)) as storage:
                assert len(list(storage.records(Query()))) == PROCESSES

    def test_a_child_uses_the_storage_without_connecting_again(self, storage: RecordStorage) -> None:
        storage.store("flow", "task", "1", "parent")

        def work() -> None:
            assert storage.retrieve("flow", "task", "1") == "parent"
            storage.store("flow", "task", "1", "child")

        wait_for(in_child(work))
        assert storage.retrieve("flow", "task", "1") == "child"

    def test_readers_never_see_half_a_value(self, recipe: Recipe, storage: RecordStorage) -> None:
        values = [[number] * 300_000 for number in range(10)]
        storage.store("flow", "task", "1", values[0])
        done, finished = os.pipe()

        def rewrite() -> None:
            with opened(recipe) as writer:
                for number in range(40):
                    writer.store("flow", "task", "1", values[number % 10])
            os.write(finished, b"!")

        os.set_blocking(done, False)
        pid = in_child(rewrite)
        reads, seen = 0, set()
        while not _readable(done):
            value = storage.retrieve("flow", "task", "1")
            assert value == values[value[0]]
            seen.add(value[0])
            reads += 1
        wait_for(pid)
        os.close(done)
        os.close(finished)
        print(f"{reads} reads, {len(seen)} different values")
        assert len(seen) > 1

    def test_a_killed_writer_loses_nothing_that_was_acknowledged(self, recipe: Recipe) -> None:
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        acknowledged: dict[str, int] = {}
        for life in range(30):
            acknowledged |= _write_until_killed(recipe, life, chance)
        with opened(recipe) as storage:
            for task_id, size in acknowledged.items():
                assert storage.retrieve("flow", "task", task_id) == "x" * size
            everything = list(storage.records(Query()))
            by_run = list(storage.records(Query(run_id="r")))
        for one in everything:
            pipeline.decode(one)
        print(f"seed {seed}: 30 kills, {len(acknowledged)} acknowledged, {len(everything)} found, none torn")
        assert {one.key.task_id for one in by_run} >= set(acknowledged)


def _readable(descriptor: int) -> bool:
    try:
        return bool(os.read(descriptor, 1))
    except BlockingIOError:
        return False


def _write_until_killed(recipe: Recipe, life: int, chance: random.Random) -> dict[str, int]:
    """Let a child store until it is killed, at any point; return what it had been told is stored."""
    told, tell = os.pipe()
    sizes = [chance.choice((10, 5_000, 300_000)) for _ in range(1000)]

    def write() -> None:
        with opened(recipe) as storage:
            for number, size in enumerate(sizes):
                storage.put(record(Key("flow", "task", f"{life}.{number}"), "x" * size, run_id="r"))
                os.write(tell, b"%d\n" % number)

    pid = in_child(write)
    os.close(tell)
    with open(told) as lines:
        for _ in range(chance.randrange(1, 8)):
            last = lines.readline()
        # Not to wait for anything: to hit another point of the next store each time.
        until = time.perf_counter() + chance.uniform(0, 0.005)
        while time.perf_counter() < until:
            pass
        os.kill(pid, signal.SIGKILL)
        last = (lines.readlines() or [last])[-1]
    os.waitpid(pid, 0)
    return {f"{life}.{number}": sizes[number] for number in range(int(last) + 1)}
