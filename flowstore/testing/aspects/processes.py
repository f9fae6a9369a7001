"""Forked processes, and processes that share only the database."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from typing import Any

from flowstore.encoding import pipeline
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.testing import races
from flowstore.testing.base import Adapter, AdapterTests
from flowstore.testing.concurrency import PROCESSES, ROUNDS, in_child, in_processes, wait_for
from flowstore.testing.samples import KEY, record

LIVES = 20


class ForkTests(AdapterTests):
    """A connected process may be forked, as in Celery's prefork pool."""

    aspect = "fork"

    def test_parent_and_child_go_on_after_a_fork(self, adapter: Adapter) -> None:
        """Parent and child share a connection, or the child closed it."""
        with adapter.configured() as get:
            get().store("flow", "task", "before", "parent")

            def work() -> None:
                _use(get, "child")
                get().disconnect()

            pid = in_child(work)
            _use(get, "parent")
            wait_for(pid, self.deadline)
            _use(get, "parent again")
            assert get().retrieve("flow", "task", "before") == "parent"


def _use(get: Any, task_name: str) -> None:
    for number in range(ROUNDS):
        get().store("flow", task_name, str(number), [task_name, number])
        assert get().retrieve("flow", task_name, str(number)) == [task_name, number]


class ForkRecordTests(ForkTests):
    """An instance notices a fork by itself."""

    aspect = "fork"

    def test_a_child_uses_the_instance_of_its_parent(self, storage: RecordStorage) -> None:
        """A forked instance uses its parent's connection or lock."""
        storage.store("flow", "task", "before", "parent")

        def work() -> None:
            if not storage.is_connected():
                storage.connect()
            _use(lambda: storage, "child")
            storage.get_many([Ref(RESULT, Key("flow", "task", "before"))])
            storage.disconnect()

        pid = in_child(work)
        _use(lambda: storage, "parent")
        wait_for(pid, self.deadline)
        _use(lambda: storage, "parent again")
        assert storage.retrieve("flow", "task", "before") == "parent"


class ProcessValueTests(AdapterTests):
    """What one process stores, all others see."""

    aspect = "processes"

    def test_another_process_sees_what_was_stored(self, adapter: Adapter, storage: Any) -> None:
        """A value stays in its process, or in an open transaction."""
        storage.store("flow", "task", "1", "parent")

        def work() -> None:
            with adapter.opened() as mine:
                assert mine.retrieve("flow", "task", "1") == "parent"
                mine.store("flow", "task", "1", "child")

        wait_for(in_child(work), self.deadline)
        assert storage.retrieve("flow", "task", "1") == "child"

    def test_processes_create_it_together(self, adapter: Adapter) -> None:
        """Workers that start at once in an empty place fail, or start over."""
        numbers = in_processes(adapter, races.connect_and_store, self.deadline)
        assert numbers == list(range(PROCESSES))
        with adapter.opened() as storage:
            assert [storage.retrieve("flow", "task", str(number)) for number in numbers] == numbers

    def test_processes_get_their_own_values(self, adapter: Adapter) -> None:
        """Values of different keys overwrite each other."""
        wrong = in_processes(adapter, partial(races.open_and, work=races.store_and_retrieve), self.deadline)
        assert wrong == [[]] * PROCESSES

    def test_readers_never_see_half_a_value(self, adapter: Adapter, storage: Any) -> None:
        """A reader sees a partial value: it is written in several steps."""
        values = [[number] * 300_000 for number in range(10)]
        storage.store("flow", "task", "1", values[0])
        done, finished = os.pipe()
        os.set_blocking(done, False)

        def rewrite() -> None:
            with adapter.opened() as writer:
                for number in range(2 * ROUNDS):
                    writer.store("flow", "task", "1", values[number % 10])

        pid = in_child(rewrite)
        os.close(finished)
        while not _has_ended(done):
            found = storage.retrieve("flow", "task", "1")
            assert found in values
        wait_for(pid, self.deadline)
        os.close(done)


class ProcessTests(ProcessValueTests):
    """One of several processes wins; a killed one leaves nothing half done."""

    aspect = "processes"

    def test_one_process_stores_if_there_is_none(self, adapter: Adapter) -> None:
        """Two processes stored first: checking and writing are two steps."""
        races.check_winners(in_processes(adapter, partial(races.open_and, work=races.put_if_absent), self.deadline))

    def test_one_process_takes_the_place_of_an_expired_record(self, adapter: Adapter, storage: RecordStorage) -> None:
        """Two processes replaced an expired record: the check is another step."""
        races.fill_expired(storage)
        races.check_winners(in_processes(adapter, partial(races.open_and, work=races.put_if_absent), self.deadline))

    def test_one_process_replaces_a_revision(self, adapter: Adapter, storage: RecordStorage) -> None:
        """Two processes replaced the same revision: one write is lost."""
        storage.put(record(KEY, "start"))
        races.check_winners(in_processes(adapter, partial(races.open_and, work=races.compare_and_set), self.deadline))

    def test_one_process_deletes_a_revision(self, adapter: Adapter, storage: RecordStorage) -> None:
        """Two processes deleted a revision: the comparison is another step."""
        races.fill_rounds(storage)
        races.check_winners(in_processes(adapter, partial(races.open_and, work=races.delete_revision), self.deadline))

    def test_processes_get_revisions_of_their_own(self, adapter: Adapter, storage: RecordStorage) -> None:
        """A revision was given twice: it is read and written in two steps."""
        revisions = in_processes(adapter, partial(races.open_and, work=races.put_always), self.deadline)
        races.check_revisions(revisions, storage)

    def test_processes_store_the_same_batch(self, adapter: Adapter, storage: RecordStorage) -> None:
        """Batches deadlock: they lock records in different orders; sort them."""
        revisions = in_processes(adapter, partial(races.open_and, work=races.put_batches), self.deadline)
        races.check_batches(revisions, storage)

    def test_a_killed_writer_loses_nothing_that_was_acknowledged(self, adapter: Adapter) -> None:
        """An acknowledged write is lost or incomplete.

        It was acknowledged too early, or interrupted between two steps.
        """
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        acknowledged = kill_writers(adapter, LIVES, chance)
        with adapter.opened() as storage:
            for task_id, size in acknowledged.items():
                assert storage.retrieve("flow", "task", task_id) == "x" * size, f"lost, with seed {seed}"
            for one in storage.records(Query()):
                pipeline.decode(one)
            by_run = {one.key.task_id for one in storage.records(Query(run_id="r"), payload=False)}
        assert by_run >= set(acknowledged)


def _has_ended(descriptor: int) -> bool:
    """Return whether the process at the other end of a pipe has ended."""
    try:
        return os.read(descriptor, 1) == b""
    except BlockingIOError:
        return False


def kill_writers(adapter: Adapter, lives: int, chance: random.Random) -> dict[str, int]:
    """Kill one writing child after the other; return acknowledged task ids.

    Maps each task id to the size of its value.
    """
    acknowledged: dict[str, int] = {}
    for life in range(lives):
        acknowledged |= _write_until_killed(adapter, life, chance)
    return acknowledged


def _write_until_killed(adapter: Adapter, life: int, chance: random.Random) -> dict[str, int]:
    """Let a child write until it is killed; return what was acknowledged."""
    reader, writer = os.pipe()
    sizes = [chance.choice((10, 5_000, 300_000)) for _ in range(1000)]

    def write() -> None:
        with adapter.opened() as storage:
            for number, size in enumerate(sizes):
                storage.put(record(Key("flow", "task", f"{life}.{number}"), "x" * size, run_id="r"))
                os.write(writer, b"%d\n" % number)

    pid = in_child(write)
    os.close(writer)
    last = ""
    with open(reader) as lines:
        for _ in range(chance.randrange(1, 8)):
            last = lines.readline()
        if not last:
            wait_for(pid)
        # Not to wait for anything: to hit another point of the next store each time.
        until = time.perf_counter() + chance.uniform(0, 0.005)
        while time.perf_counter() < until:
            pass
        os.kill(pid, signal.SIGKILL)
        last = (lines.readlines() or [last])[-1]
    os.waitpid(pid, 0)
    return {f"{life}.{number}": sizes[number] for number in range(int(last) + 1)}
