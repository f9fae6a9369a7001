"""What waiting for a run and reading for a fan-in ask of a storage: a few calls, whatever the number of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from flowstore import FlowStore, Key, Record, Ref, RemoteTaskError
from flowstore.celery.context import TaskContext
from flowstore.encoding.pipeline import encode, encode_error
from flowstore.record import ERROR, RESULT, Page
from flowstore.storages.memory import MemoryStorage
from flowstore.store.plan import Chain, Group, Member, Plan

FLOW, RUN_ID = "flow", "r"
COUNTED = ("get", "get_many", "_scan")  # each a round trip, or few, in a database


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the storage is asked, and how many records its listings hand out."""
    counted: Counter[str] = Counter()
    for name in COUNTED:
        plain = getattr(MemoryStorage, name)

        def call(self: MemoryStorage, *args: Any, name: str = name, plain: Any = plain, **options: Any) -> Any:
            counted[name] += 1
            answer = plain(self, *args, **options)
            if isinstance(answer, Page):
                counted["records"] += len(answer.records)
            return answer

        monkeypatch.setattr(MemoryStorage, name, call)
    return counted


@pytest.fixture
def store() -> Iterator[FlowStore]:
    store = FlowStore({"storages": [{"name": "MemoryStorage"}], "global": {"default_storage": "MemoryStorage"}})
    yield store
    store.close()


def result(name: str, task_id: str, **facts: Any) -> Record:
    return encode(Ref(RESULT, Key(FLOW, name, task_id)), task_id, {"state": "SUCCESS", "run_id": RUN_ID, **facts})


def put(store: FlowStore, records: list[Record]) -> None:
    storage: Any = store.storage("MemoryStorage")
    storage.put_many(records)


@pytest.mark.parametrize("number", [20, 2000])
def test_a_look_costs_the_same_with_any_number_of_finished_tasks(
    number: int, store: FlowStore, calls: Counter[str]
) -> None:
    parts = tuple(Member("part", str(n)) for n in range(number))
    run = store._begin_run(FLOW, RUN_ID, plan=Plan.of(Chain((Group(parts), Member("last", "last")))))
    put(store, [result("part", str(n), group_id="g", group_index=n) for n in range(number)])
    calls.clear()
    with pytest.raises(TimeoutError):
        run.get(timeout=0)
    assert calls["get"] + calls["get_many"] <= 2
    assert calls["_scan"] <= 2
    assert calls["records"] == 0


@pytest.mark.parametrize("number", [20, 2000])
def test_a_look_at_a_large_group_asks_for_some_of_its_results(
    number: int, store: FlowStore, calls: Counter[str]
) -> None:
    run = store._begin_run(FLOW, RUN_ID, plan=Plan.of(Group(tuple(Member("part", str(n)) for n in range(number)))))
    calls.clear()
    with pytest.raises(TimeoutError):
        run.get(timeout=0)
    assert (calls["get_many"], calls["_scan"], calls["records"]) == (1, 2, 0)


def test_failures_that_redelivered_tasks_made_up_for_end_nothing(store: FlowStore) -> None:
    number = 120
    parts = tuple(Member("part", str(n)) for n in range(number))
    run = store._begin_run(FLOW, RUN_ID, plan=Plan.of(Chain((Group(parts), Member("last", "last")))))
    facts = {"state": "FAILURE", "run_id": RUN_ID, "finished_at": 1.0}
    put(store, [encode_error(Ref(ERROR, Key(FLOW, "part", str(n))), OSError(), facts) for n in range(number)])
    put(store, [result("part", str(n), finished_at=2.0) for n in range(number - 1)])
    with pytest.raises(RemoteTaskError, match="'119'"):
        run.get(timeout=0)
    put(store, [result("part", str(number - 1), finished_at=2.0), result("last", "last")])
    assert run.get(timeout=0) == "last"


@pytest.mark.parametrize("number", [20, 400])
def test_a_group_is_read_in_batches(number: int, store: FlowStore, calls: Counter[str]) -> None:
    run = store._begin_run(FLOW, RUN_ID, plan=Plan.of(Group(tuple(Member("part", str(n)) for n in range(number)))))
    put(store, [result("part", str(n)) for n in range(number)])
    calls.clear()
    assert run.get(timeout=0) == [str(n) for n in range(number)]
    assert calls["get"] + calls["get_many"] + calls["_scan"] <= 3


@pytest.mark.parametrize("number", [20, 400])
def test_the_parents_of_a_body_are_read_in_batches(number: int, store: FlowStore, calls: Counter[str]) -> None:
    put(store, [result("part", str(n), group_id="g", group_index=n) for n in range(number)])
    context = TaskContext(store, FLOW, RUN_ID, "body", "body", 1, None, joins="g")
    calls.clear()
    assert context.parent_results() == {"part": [str(n) for n in range(number)]}
    assert calls["get"] + calls["get_many"] + calls["_scan"] <= 2
    calls.clear()
    assert context.parent_task_results("part") == [str(n) for n in range(number)]
    assert calls["get"] + calls["get_many"] + calls["_scan"] <= 2
    calls.clear()
    assert context.parent_task_exceptions("part") == []
    assert calls["get"] + calls["get_many"] + calls["_scan"] <= 2
