"""One instance serves all threads of a process."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flowstore.errors import ConflictError, SerializationError, StorageError
from flowstore.record import Query
from flowstore.storage import RecordStorage
from flowstore.testing import races
from flowstore.testing.base import Adapter, AdapterTests
from flowstore.testing.concurrency import ROUNDS, in_threads
from flowstore.testing.samples import KEY, record


class ThreadValueTests(AdapterTests):
    """Threads share an instance without affecting each other."""

    aspect = "threads"

    def test_threads_get_their_own_values(self, adapter: Adapter) -> None:
        """Threads got each other's answers: they share a connection or buffer."""
        with adapter.configured() as get:
            wrong = in_threads(lambda barrier, worker: races.store_and_retrieve(get(), barrier, worker), self.deadline)
        assert wrong == [[]] * len(wrong)

    def test_threads_never_see_half_a_value(self, adapter: Adapter) -> None:
        """A reader sees a partial value: it is written in several steps."""
        values = [{"number": number, "filler": [number] * 20_000} for number in range(4)]
        done = threading.Event()

        def work(barrier: Any, worker: int) -> list[object]:
            barrier.wait()
            if worker == 0:
                try:
                    for number in range(ROUNDS):
                        get().store("flow", "task", "1", values[number % 4])
                finally:
                    done.set()
                return []
            torn: list[object] = []
            while not done.is_set():
                found = get().retrieve("flow", "task", "1")
                if found not in values:
                    torn.append(found)
            return torn

        with adapter.configured() as get:
            get().store("flow", "task", "1", values[0])
            torn = in_threads(work, self.deadline, count=4)
        assert torn == [[]] * 4


class ThreadTests(ThreadValueTests):
    """One of several competing threads wins."""

    aspect = "threads"

    def test_one_thread_stores_if_there_is_none(self, storage: RecordStorage) -> None:
        """Two threads stored first: checking and writing are two steps."""
        races.check_winners(in_threads(lambda *here: races.put_if_absent(storage, *here), self.deadline))

    def test_one_thread_takes_the_place_of_an_expired_record(self, storage: RecordStorage) -> None:
        """Two threads replaced an expired record: the check is another step."""
        races.fill_expired(storage)
        races.check_winners(in_threads(lambda *here: races.put_if_absent(storage, *here), self.deadline))

    def test_one_thread_replaces_a_revision(self, storage: RecordStorage) -> None:
        """Two threads replaced the same revision: one write is lost."""
        storage.put(record(KEY, "start"))
        races.check_winners(in_threads(lambda *here: races.compare_and_set(storage, *here), self.deadline))

    def test_one_thread_deletes(self, storage: RecordStorage) -> None:
        """Two threads, or none, deleted the same record."""
        races.fill_rounds(storage)
        races.check_winners(in_threads(lambda *here: races.delete_one(storage, *here), self.deadline))
        assert storage.count(Query(run_id="r")) == 0

    def test_one_thread_deletes_a_revision(self, storage: RecordStorage) -> None:
        """Two threads deleted a revision: the comparison is another step."""
        races.fill_rounds(storage)
        races.check_winners(in_threads(lambda *here: races.delete_revision(storage, *here), self.deadline))
        assert storage.count(Query(run_id="r")) == 0

    def test_threads_get_revisions_of_their_own(self, storage: RecordStorage) -> None:
        """A revision was given twice: it is read and written in two steps."""
        races.check_revisions(in_threads(lambda *here: races.put_always(storage, *here), self.deadline), storage)

    def test_threads_store_the_same_batch(self, storage: RecordStorage) -> None:
        """Batches deadlock: they lock records in different orders; sort them."""
        races.check_batches(in_threads(lambda *here: races.put_batches(storage, *here), self.deadline), storage)

    def test_a_thread_goes_on_after_anothers_error(self, storage: RecordStorage) -> None:
        """A refused write left a lock or transaction that blocks other threads."""
        first = storage.put(record(KEY, "one")).revision

        def refused(barrier: Any, worker: int) -> None:
            with pytest.raises(ConflictError):
                storage.put(record(KEY, "two"), if_revision=0)
            with pytest.raises(SerializationError):
                storage.put(record(KEY, "two", broken=object()))
            with pytest.raises(ConflictError):
                storage.delete(KEY, if_revision=7)
            with pytest.raises(StorageError):
                storage.scan(Query(), cursor="no cursor")

        in_threads(refused, self.deadline, count=1)
        in_threads(lambda barrier, worker: storage.put(record(KEY, worker)), self.deadline, count=1)
        assert storage.get(KEY).revision == first + 1
