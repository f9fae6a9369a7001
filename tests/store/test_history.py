"""The history: appended to, selected from, never changed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from flowstore import FlowStore, Query, SerializationError, UnknownStorageError, UnreachableError, UnsupportedError
from flowstore.record import HISTORY
from flowstore.store.history import HistoryEntry
from flowstore.testing import Adapter
from flowstore.testing.concurrency import in_processes, in_threads
from tests.storages.places import SHARED, adapter, configuration
from tests.storages.storage_kit import Recipe
from tests.store.state_adapters import LosingStorage

pytest_plugins = ("tests.store.every_store", "tests.storages.every_storage")

PATIENCE = 240.0


def events(found: Iterator[HistoryEntry]) -> list[str]:
    return [entry.event for entry in found]


def test_an_entry_comes_back_as_it_was_appended(flows: FlowStore) -> None:
    before = flows.storage("Results").now()  # type: ignore[attr-defined]
    first = flows.record_history("approved", "flow", run_id="run", task_name="task", task_id="1", data={"by": ("x", 1)})
    second = flows.record_history("closed", "flow")
    assert list(flows.history()) == [first, second]
    assert (first.event, first.flow_name, first.run_id, first.task_name, first.task_id) == (
        "approved",
        "flow",
        "run",
        "task",
        "1",
    )
    assert first.data == {"by": ("x", 1)}
    assert (second.run_id, second.task_name, second.task_id, second.data) == (None, "", "", None)
    assert first.sequence < second.sequence
    assert before <= first.at <= second.at


def test_it_is_selected_by_flow_run_task_and_event(flows: FlowStore) -> None:
    for flow in ("a", "b"):
        for run in ("1", "2"):
            for task in ("t", "u"):
                event = f"{flow}{run}{task}"
                flows.record_history(event, flow, run_id=f"{flow}{run}", task_name=task, task_id=f"{flow}{run}{task}")
    assert events(flows.history()) == ["a1t", "a1u", "a2t", "a2u", "b1t", "b1u", "b2t", "b2u"]
    assert events(flows.history("a")) == ["a1t", "a1u", "a2t", "a2u"]
    assert events(flows.history(run_id="b1")) == ["b1t", "b1u"]
    assert events(flows.history("a", run_id="b1")) == []
    assert events(flows.history("a", task_name="t")) == ["a1t", "a2t"]
    assert events(flows.history(task_id="b2u")) == ["b2u"]
    assert events(flows.history(events={"a1t", "b2u", "other"})) == ["a1t", "b2u"]
    assert events(flows.history(descending=True, limit=3)) == ["b2u", "b2t", "b1u"]
    assert events(flows.history("a", limit=0)) == []
    assert events(flows.history(events=["b1t"], limit=1)) == ["b1t"]
    assert events(flows.history("c")) == []


def test_it_is_selected_by_time(flows: FlowStore) -> None:
    first, second, third = (flows.record_history(str(number), "flow") for number in range(3))
    if not first.at < second.at < third.at:
        pytest.skip("the storage's clock did not tick between the entries")
    assert events(flows.history(since=second.at)) == ["1", "2"]
    assert events(flows.history(until=second.at)) == ["0"]
    assert events(flows.history(since=second.at, until=third.at)) == ["1"]
    day = dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    assert events(flows.history(since=now - day, until=now + day)) == ["0", "1", "2"]
    assert events(flows.history(since=now + day)) == []


def test_a_time_without_a_zone_is_refused(flows: FlowStore) -> None:
    with pytest.raises(ValueError, match="time zone"):
        flows.history(since=dt.datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite"])
def test_more_entries_than_a_page_holds_come_in_their_order(flows: FlowStore) -> None:
    numbers = list(range(520))
    for number in numbers:
        flows.record_history("counted", "flow", data=number)
    assert [entry.data for entry in flows.history("flow")] == numbers
    sequences = [entry.sequence for entry in flows.history("flow")]
    assert sequences == sorted(set(sequences))
    times = [(entry.at, entry.sequence) for entry in flows.history("flow")]
    assert times == sorted(times)
    assert [entry.data for entry in flows.history("flow", descending=True, limit=2)] == [519, 518]


def append(place: Adapter, barrier: Any, worker: int) -> None:
    flows = FlowStore(configuration((place.storage_class.__name__, dict(place.configuration))))
    barrier.wait()
    for number in range(10):
        flows.record_history("counted", "flow", data=[worker, number])
    flows.close()


@pytest.mark.parametrize("kind", SHARED)
def test_no_entry_of_many_processes_is_lost(recipe: Recipe) -> None:
    in_processes(adapter(recipe), append, PATIENCE, 4)
    flows = FlowStore(configuration(recipe))
    found = [entry.data for entry in flows.history("flow")]
    flows.close()
    assert sorted(found) == [[worker, number] for worker in range(4) for number in range(10)]
    for worker in range(4):
        assert [data for data in found if data[0] == worker] == [[worker, number] for number in range(10)]


def test_no_entry_of_many_threads_is_lost(flows: FlowStore) -> None:
    def work(barrier: Any, worker: int) -> None:
        barrier.wait()
        for number in range(5):
            flows.record_history("counted", "flow", data=[worker, number])

    in_threads(work, PATIENCE)
    found = sorted(entry.data for entry in flows.history("flow"))
    assert found == [[worker, number] for worker in range(8) for number in range(5)]


def test_an_entry_whose_answer_is_lost_is_there_once(losing: FlowStore) -> None:
    storage = losing.storage("Results")
    assert isinstance(storage, LosingStorage)
    storage.lost = [lambda: None, lambda: None]
    losing.record_history("once", "flow")
    assert events(losing.history()) == ["once"]
    storage.lost, storage.arrives = [lambda: None] * 100, False
    with pytest.raises(UnreachableError):
        losing.record_history("never known", "flow")


def test_what_cannot_be_stored_is_not_appended(flows: FlowStore) -> None:
    with pytest.raises(SerializationError):
        flows.record_history("noted", "flow", data=object())
    assert events(flows.history()) == []


def test_it_outlives_its_run_and_is_purged_as_a_kind(flows: FlowStore) -> None:
    flows.store("flow", "task", "1", "result")
    flows.record_history("noted", "flow", run_id="run", task_name="task", task_id="1")
    flows.clear("Results")
    flows.delete_run("run")
    assert events(flows.history(run_id="run")) == ["noted"]
    assert flows.cleanup(older_than=0) == 0
    assert events(flows.history()) == ["noted"]
    assert flows.purge("Results", kind=HISTORY) == 1
    assert events(flows.history()) == []


def test_old_entries_are_cleaned_up_where_they_are_named(flows: FlowStore) -> None:
    flows.record_history("noted", "flow")
    assert flows.cleanup(older_than="1d", kinds=[HISTORY]) == 0
    storage: Any = flows.storage("Results")
    (record,) = storage.records(Query((HISTORY,)))
    storage.put(type(record)(record.ref, record.payload, {**record.headers, "stored_at": record.stored_at - 86_500}))
    assert flows.cleanup(older_than="1d", kinds=[HISTORY]) == 1


def two_storages(**keys: Any) -> FlowStore:
    storages = [{"name": name, "classname": "MemoryStorage", **keys} for name in ("A", "B")]
    plain = {"name": "PlainStorage", "import": "tests.store.own_adapters"}
    flows = [
        {"name": "in A", "storage": "A"},
        {"name": "in B", "storage": "B"},
        {"name": "p", "storage": "PlainStorage"},
    ]
    return FlowStore({"storages": [*storages, plain], "flows": flows})


def test_several_storages_are_read_as_one() -> None:
    flows = two_storages()
    for number in range(6):
        flows.record_history(str(number), "in A" if number % 3 else "in B")
    assert events(flows.history()) == ["0", "1", "2", "3", "4", "5"]
    assert events(flows.history(descending=True, limit=2)) == ["5", "4"]
    assert events(flows.history("in B")) == ["0", "3"]


def test_a_flow_that_cannot_keep_any_says_so() -> None:
    flows = two_storages()
    with pytest.raises(UnknownStorageError, match="'nowhere'"):
        flows.record_history("noted", "nowhere")
    with pytest.raises(UnknownStorageError, match="'nowhere'"):
        flows.history("nowhere")
    with pytest.raises(UnsupportedError, match="RecordStorage"):
        flows.record_history("noted", "p")


def test_a_renamed_task_is_found_by_both_names() -> None:
    tasks = [{"name": "long.name", "storage_task_name": "short"}]
    flows = FlowStore({**configuration(("MemoryStorage", {})), "tasks": tasks})
    flows.record_history("noted", "flow", task_name="long.name")
    assert flows.record_history("noted", "flow", task_name="short").task_name == "short"
    assert len(list(flows.history(task_name="short"))) == len(list(flows.history(task_name="long.name"))) == 2


# Which ends of tasks are noted down


@pytest.mark.parametrize(
    ("of_storage", "of_flow", "wanted"),
    [
        (None, None, (False, False)),
        ("errors", None, (False, True)),
        ("all", None, (True, True)),
        ("all", "none", (False, False)),
        ("none", "errors", (False, True)),
        ("errors", "all", (True, True)),
    ],
)
def test_the_flow_has_the_last_word(of_storage: str | None, of_flow: str | None, wanted: tuple[bool, bool]) -> None:
    keys = {} if of_storage is None else {"history": of_storage}
    flow = {"name": "flow"} if of_flow is None else {"name": "flow", "history": of_flow}
    flows = FlowStore({**configuration(("MemoryStorage", {}), **keys), "flows": [flow]})
    assert tuple(flows._router.keeps_history("flow", is_error) for is_error in (False, True)) == wanted


def test_a_flow_without_a_storage_has_none() -> None:
    flows = FlowStore({"storages": [{"name": "MemoryStorage", "history": "all"}]})
    assert not flows._router.keeps_history("flow", True)
