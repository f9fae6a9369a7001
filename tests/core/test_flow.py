"""What ran in a flow run, put together from records; without any worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flowstore import FlowStore, Key, NotFoundError, Record, Ref, RemoteTaskError
from flowstore.flow import Plan, tasks_of
from flowstore.pipeline import encode, encode_error
from flowstore.record import ERROR, RESULT

FLOW = "flow"


def result(name: str, **facts: Any) -> tuple[str, Record]:
    return "S", encode(Ref(RESULT, Key(FLOW, name, f"{name}-id")), name, {"state": "SUCCESS", "run_id": "r", **facts})


def error(name: str, attempt: int = 1, final: bool = True, **facts: Any) -> tuple[str, Record]:
    ref = Ref(ERROR, Key(FLOW, name, f"{name}-id"), "" if final else str(attempt))
    facts = {"state": "FAILURE" if final else "RETRY", "run_id": "r", "attempt": attempt, **facts}
    return "S", encode_error(ref, ValueError(f"attempt {attempt}"), facts)


@pytest.mark.parametrize(
    ("records", "state", "attempt", "failed"),
    [
        ([result("a")], "SUCCESS", 1, ()),
        ([error("a", 1, final=False)], "RETRY", 1, (1,)),
        ([error("a", 1, final=False), error("a", 2, final=False)], "RETRY", 2, (1, 2)),
        ([error("a", 2, final=False), error("a", 1, final=False), result("a", attempt=3)], "SUCCESS", 3, (1, 2)),
        ([error("a", 1, final=False), error("a", 2)], "FAILURE", 2, (1,)),
        # Of two executions of one attempt, one failed and one succeeded: a success is never taken back.
        ([result("a", attempt=1), error("a", 2)], "SUCCESS", 1, ()),
        ([error("a", 1, state="REVOKED")], "REVOKED", 1, ()),
        ([result("a", attempt=1), error("a", 2, final=False)], "SUCCESS", 1, (2,)),
    ],
)
def test_the_decisive_record_tells_the_state(
    records: list[tuple[str, Record]], state: str, attempt: int, failed: tuple[int, ...]
) -> None:
    for ordered in (records, records[::-1]):
        (task,) = tasks_of(iter(ordered))
        assert (task.state, task.attempt, task.failed_attempts) == (state, attempt, failed)


def test_tasks_come_in_the_order_of_their_start() -> None:
    records = [result("c", started_at=3.0), result("a", started_at=1.0), result("b", started_at=2.0)]
    assert [task.name for task in tasks_of(iter(records))] == ["a", "b", "c"]


def test_a_body_has_its_header_as_parents_in_the_order_of_the_chord() -> None:
    records = [
        result("body", joins="g", group_id="g"),
        result("two", group_id="g", group_index=1),
        error("one", group_id="g", group_index=0),
        result("ten", group_id="g", group_index=10),
        result("stranger", group_id="h", group_index=0),
    ]
    (body,) = [task for task in tasks_of(iter(records)) if task.name == "body"]
    assert [parent.task_name for parent in body.parents] == ["one", "two", "ten"]


def test_the_members_of_a_group_as_body_are_not_their_own_parents() -> None:
    records = [
        result("header", group_id="g", group_index=0),
        result("x", joins="g", group_id="g", group_index=0),
        result("y", joins="g", group_id="g", group_index=1),
    ]
    parents = {task.name: [parent.task_name for parent in task.parents] for task in tasks_of(iter(records))}
    assert parents == {"header": [], "x": ["header"], "y": ["header"]}


def test_records_that_say_little_are_tasks_too() -> None:
    (task,) = tasks_of(iter([("S", Record(Ref(RESULT, Key(FLOW, "a", "1")), b""))]))
    assert (task.state, task.attempt, task.started_at, task.parents, task.size) == ("SUCCESS", 1, None, (), 0)


def test_a_plan_survives() -> None:
    plan = Plan({"group": [["a", "1"], {"group": [["b", "2"]]}]}, ("1", "2"))
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.fixture
def store() -> Iterator[FlowStore]:
    store = FlowStore({"storages": [{"name": "MemoryStorage"}], "global": {"default_storage": "MemoryStorage"}})
    yield store
    store.close()


def put(store: FlowStore, *records: tuple[str, Record]) -> None:
    storage: Any = store.storage("MemoryStorage")
    for _, record in records:
        storage.put(record)


def test_get_assembles_nested_groups(store: FlowStore) -> None:
    run = store.flow_runs.begin(FLOW, "r")
    put(store, result("a"), result("b"))
    store.flow_runs.note_plan(run, Plan({"group": [["a", "a-id"], {"group": [["b", "b-id"], ["a", "a-id"]]}]}, ()))
    assert run.get(timeout=0) == ["a", ["b", "a"]]


def test_get_looks_before_the_time_is_up(store: FlowStore) -> None:
    run = store.flow_runs.begin(FLOW, "r")
    store.flow_runs.note_plan(run, Plan(["a", "a-id"], ("a-id",)))
    with pytest.raises(TimeoutError, match="within 0 s"):
        run.get(timeout=0)
    put(store, error("stranger"))  # an error of a task that is not part of the canvas, such as an errback
    with pytest.raises(TimeoutError):
        run.get(timeout=0)
    put(store, error("a"))
    with pytest.raises(RemoteTaskError):
        run.get(timeout=0)
    put(store, result("a"))
    assert run.get(timeout=0) == "a"


def test_get_finds_what_took_the_place_of_the_last_task(store: FlowStore) -> None:
    run = store.flow_runs.begin(FLOW, "r")
    store.flow_runs.note_plan(run, Plan(["original", "a-id"], ("a-id",)))
    put(store, result("a"))
    assert run.get(timeout=0) == "a"


def test_runs_are_listed_latest_first_and_forgotten_when_not_sent(store: FlowStore) -> None:
    runs = [store.flow_runs.begin(FLOW, f"run {number}") for number in range(3)]
    store.flow_runs.begin(FLOW, "child", parent_run_id="run 0")
    store.flow_runs.forget(runs[1])
    assert [run.id for run in store.runs(FLOW)] == ["child", "run 2", "run 0"]
    assert store.run("child").parent_run_id == "run 0"
    with pytest.raises(NotFoundError):
        store.run("run 1")
