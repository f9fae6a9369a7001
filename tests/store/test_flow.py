"""What ran in a flow run, put together from records; without any worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from flowstore import CorruptError, ExpiredError, FlowStore, Key, NotFoundError, Record, Ref, RemoteTaskError
from flowstore.encoding.pipeline import encode, encode_error
from flowstore.record import ERROR, RESULT
from flowstore.store.plan import Chain, Chord, Group, Member, Plan
from flowstore.store.task_run import tasks_of

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
    run = store._begin_run(FLOW, "r")
    put(store, result("a"), result("b"))
    store._replace_plan(run, Plan({"group": [["a", "a-id"], {"group": [["b", "b-id"], ["a", "a-id"]]}]}, ()))
    assert run.get(timeout=0) == ["a", ["b", "a"]]


def test_get_looks_before_the_time_is_up(store: FlowStore) -> None:
    run = store._begin_run(FLOW, "r")
    store._replace_plan(run, Plan(["a", "a-id"], ("a-id",)))
    with pytest.raises(TimeoutError, match="after 0 s"):
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
    run = store._begin_run(FLOW, "r")
    store._replace_plan(run, Plan(["original", "a-id"], ("a-id",)))
    put(store, result("a"))
    assert run.get(timeout=0) == "a"


def test_runs_are_listed_latest_first_and_forgotten_when_not_sent(store: FlowStore) -> None:
    runs = [store._begin_run(FLOW, f"run {number}") for number in range(3)]
    store._begin_run(FLOW, "child", parent_run_id="run 0")
    store._forget_run(runs[1])
    assert [run.id for run in store.runs(FLOW)] == ["child", "run 2", "run 0"]
    assert store.run("child").parent_run_id == "run 0"
    with pytest.raises(NotFoundError):
        store.run("run 1")


@pytest.mark.parametrize(
    ("records", "state"),
    [
        # The execution that stored the result ended in an error afterwards: its successor could not be sent.
        ([result("a", started_at=1.0, finished_at=2.0), error("a", started_at=1.0, finished_at=3.0)], "FAILURE"),
        # Who reports a lost process, or a hard time limit, does not know when it began.
        ([result("a", started_at=1.0, finished_at=2.0), error("a", finished_at=3.0)], "FAILURE"),
        ([result("a", started_at=1.0, finished_at=2.0), error("a", finished_at=3.0, state="REVOKED")], "REVOKED"),
        # Two executions of one attempt, by a redelivered message: one succeeded.
        ([result("a", started_at=1.0, finished_at=2.0), error("a", started_at=0.5, finished_at=3.0)], "SUCCESS"),
        ([result("a", started_at=2.0, finished_at=3.0), error("a", started_at=1.0, finished_at=2.0)], "SUCCESS"),
        ([result("a", started_at=2.0, finished_at=3.0), error("a", finished_at=2.0)], "SUCCESS"),
        ([result("a", attempt=2, finished_at=2.0), error("a", 1, finished_at=3.0)], "SUCCESS"),
        ([result("a", attempt=1, finished_at=2.0), error("a", 1, final=False, finished_at=3.0)], "SUCCESS"),
    ],
)
def test_an_execution_that_fails_after_it_stored_its_result_has_failed(
    records: list[tuple[str, Record]], state: str, store: FlowStore
) -> None:
    for ordered in (records, records[::-1]):
        (task,) = tasks_of(iter(ordered))
        assert task.state == state
    run = store._begin_run(FLOW, "r", plan=Plan.of(Member("a", "a-id")))
    put(store, *records)
    if state == "SUCCESS":
        assert run.get(timeout=0) == "a"
    else:
        with pytest.raises(RemoteTaskError):
            run.get(timeout=0)
    assert store.retrieve(FLOW, "a", "a-id") == "a"


def test_the_end_of_a_chain_in_a_body_is_no_parent_of_the_body() -> None:
    body = {"group_id": "g", "joins": "g"}
    records = [
        result("header", group_id="g", group_index=0),
        result("first", **body),  # of a chain, the last of which Celery gives the group and an index
        result("second", parents=[["first", "first-id"]]),
        result("last", parents=[["second", "second-id"]], group_id="g", group_index=0),
        result("beside", **body, group_index=1),
        result("spawned", parents=[["last", "last-id"]]),
    ]
    parents = {task.name: [parent.task_name for parent in task.parents] for task in tasks_of(iter(records))}
    assert parents == {
        "header": [],
        "first": ["header"],
        "second": ["first"],
        "last": ["second"],
        "beside": ["header"],
        "spawned": ["last"],
    }


def test_parents_that_go_round_in_circles_end_somewhere() -> None:
    records = [
        result("a", parents=[["b", "b-id"]], group_id="g", group_index=0),
        result("b", parents=[["a", "a-id"]]),
        result("body", joins="g"),
    ]
    assert [task.name for task in tasks_of(iter(records))] == ["a", "b", "body"]


def test_what_the_canvas_says_counts_where_messages_tell_no_group(store: FlowStore) -> None:
    canvas = Chord((Member("one", "one-id"), Chain((Member("two", "two-id"), Member("three", "three-id")))), BODY)
    run = store._begin_run(FLOW, "r", plan=Plan.of(canvas))
    records = [result("one"), result("two"), result("three", parents=[["two", "two-id"]]), result("body", joins="g")]
    put(store, *records)
    parents = {task.name: [parent.task_name for parent in task.parents] for task in run.tasks()}
    assert parents == {"one": [], "two": [], "three": ["two"], "body": ["one", "three"]}


BODY = Member("body", "body-id")


def test_a_run_answers_only_with_what_ran_in_it(store: FlowStore) -> None:
    plan = Plan.of(Member("a", "a-id"))
    first = store._begin_run(FLOW, "first", plan=plan)
    put(store, result("a", run_id="first", published_at=time.time()))
    assert first.get(timeout=0) == "a"
    second = store._begin_run(FLOW, "second", plan=plan)
    with pytest.raises(TimeoutError):
        second.get(timeout=0)
    put(store, error("a", run_id="first"))
    with pytest.raises(TimeoutError):
        second.get(timeout=0)
    put(store, result("a", run_id="second", published_at=time.time()))
    assert second.get(timeout=0) == "a"
    # Celery, too, keeps one result for an id. That it is another run's is said.
    with pytest.raises(NotFoundError, match="run 'second' began later"):
        first.get(timeout=0)


def test_a_run_answers_for_itself_past_a_cache() -> None:
    storage = {"name": "MemoryStorage", "cache": {"classname": "LRU", "size": 10}}
    store = FlowStore({"storages": [storage], "global": {"default_storage": "MemoryStorage"}})
    plan = Plan.of(Member("a", "a-id"))
    store._begin_run(FLOW, "first", plan=plan)
    put(store, result("a", run_id="first"))
    assert store.retrieve(FLOW, "a", "a-id") == "a"
    second = store._begin_run(FLOW, "second", plan=plan)
    put(store, result("a", run_id="second"))
    assert second.get(timeout=0) == "a"


def test_a_result_that_has_expired_is_not_waited_for(store: FlowStore) -> None:
    run = store._begin_run(FLOW, "r", plan=Plan.of(Group((Member("a", "a-id"), Member("b", "b-id")))))
    put(store, result("a", expires_at=1.0), result("b"))
    with pytest.raises((NotFoundError, ExpiredError), match="expired"):
        run.get(timeout=0)


def test_an_error_is_read_where_it_was_found(store: FlowStore) -> None:
    """The error of a task without a storage is in its flow's: the configuration does not lead there."""
    store = FlowStore(
        {
            "storages": [{"name": "MemoryStorage"}],
            "global": {"default_storage": "MemoryStorage"},
            "tasks": [{"name": "a", "storage": None}],
        }
    )
    run = store._begin_run(FLOW, "r", plan=Plan.of(Chain((Member("a", "a-id"), Member("b", "b-id")))))
    put(store, error("a"))
    with pytest.raises(RemoteTaskError, match="attempt 1"):
        run.get(timeout=0)


def test_a_canvas_that_is_damaged_is_said_to_be() -> None:
    for data in (
        {},
        {"canvas": [0, "id"]},
        {"canvas": 3, "names": []},
        {"canvas": {"x": []}, "names": []},
        {"result": 1},
    ):
        with pytest.raises(CorruptError, match="record of a run"):
            Plan.from_dict(data)
