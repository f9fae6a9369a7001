"""Which of the kit's aspects an adapter has: mixins beside ``StorageContract``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flowstore.record import Query
from flowstore.testing import Adapter
from flowstore.testing.concurrency import PROCESSES, ROUNDS, in_processes

__all__ = ["ROUNDS", "ProcessRaces", "ThreadRaces"]


def create_and_store(adapter: Adapter, barrier: Any, worker: int) -> list[int]:
    done = []
    for number in range(ROUNDS):
        barrier.wait()
        with _variant(adapter, number).opened() as storage:
            storage.store("flow", "task", str(worker), number)
            done.append(storage.retrieve("flow", "task", str(worker)))
    return done


def _variant(adapter: Adapter, number: int) -> Adapter:
    """Return the adapter for another place."""
    configuration = {
        field: value.replace("records", f"records{number}") if isinstance(value, str) else value
        for field, value in adapter.configuration.items()
    }
    return Adapter(adapter.storage_class, configuration)


class ThreadRaces:
    """What is stored is seen by this instance alone."""

    lacks: ClassVar[Mapping[str, str]] = {
        "instances": "each instance has records of its own",
        "processes": "each process has records of its own",
        "faults": "there is no server",
        "foreign data": "nobody else can put anything there",
        "raw access": "there is nothing but the adapter's own memory",
    }


class ProcessRaces:
    """What one process stores, all others of the machine see."""

    lacks: ClassVar[Mapping[str, str]] = {}
    deadline: ClassVar[float] = 60.0

    def test_processes_create_many_places_together(self, adapter: Adapter) -> None:
        numbers = in_processes(adapter, create_and_store, self.deadline)
        assert numbers == [list(range(ROUNDS))] * PROCESSES
        for number in range(ROUNDS):
            with _variant(adapter, number).opened() as storage:
                assert storage.count(Query()) == PROCESSES
