"""Whose checkpoints, variables and settings are, and what goes with whom."""

from __future__ import annotations

from typing import Any

import pytest

from flowstore import (
    Checkpoints,
    CorruptError,
    FlowStore,
    InvalidKeyError,
    Key,
    NotFoundError,
    Query,
    ReadonlyError,
    UnknownStorageError,
    UnsupportedError,
)
from flowstore.record import CHECKPOINT, CONFIGURATION, VARIABLE
from tests.storages.places import configuration

pytest_plugins = ("tests.store.every_store", "tests.storages.every_storage")


def test_they_belong_to_one_owner_only(flows: FlowStore) -> None:
    owners = [
        flows.checkpoints("flow", "task", "1"),
        flows.checkpoints("flow", "task", "2"),
        flows.checkpoints("flow", "other", "1"),
        flows.checkpoints("other", "task", "1"),
        flows.variables("flow"),
        flows.variables("other"),
        flows.variables("flow", run_id="1"),
        flows.variables("flow", run_id="2"),
        flows.variables("other", run_id="1"),
        flows.documents(CONFIGURATION),
        flows.documents("a kind of one's own"),
    ]
    for number, owner in enumerate(owners):
        owner["name"] = number
        owner[str(number)] = None
    assert [owner["name"] for owner in owners] == list(range(len(owners)))
    assert [sorted(owner) for owner in owners] == [sorted(["name", str(number)]) for number in range(len(owners))]
    assert owners[0].clear() == 2
    assert [len(owner) for owner in owners] == [0] + [2] * (len(owners) - 1)


def test_what_is_stored_is_a_record_of_its_kind(memory: FlowStore) -> None:
    memory.checkpoints("flow", "task", "1", run_id="run")["a"] = 1
    memory.variables("flow", run_id="run")["b"] = 2
    memory.variables("flow")["c"] = 3
    found = {(one.kind, one.key, one.ref.name): one.run_id for one in memory.storage("Results").records(Query())}  # type: ignore[attr-defined]
    assert found == {
        (CHECKPOINT, Key("flow", "task", "1"), "a"): "run",
        (VARIABLE, Key("flow", "", "run"), "b"): "run",
        (VARIABLE, Key("flow", "", ""), "c"): None,
    }


# Who may have them


def test_a_renamed_task_finds_its_checkpoints_by_both_names() -> None:
    tasks = [{"name": "long.name", "storage_task_name": "short"}]
    flows = FlowStore({**configuration(("MemoryStorage", {})), "tasks": tasks})
    flows.checkpoints("flow", "long.name", "1")["a"] = 1
    assert flows.checkpoints("flow", "short", "1")["a"] == 1


def test_of_a_readonly_task_checkpoints_are_only_read() -> None:
    tasks = [{"name": "task", "storage_readonly": True}]
    flows = FlowStore({**configuration(("MemoryStorage", {})), "tasks": tasks})
    checkpoints = flows.checkpoints("flow", "task", "1")
    assert checkpoints.get("a", 1) == 1
    for write in (
        lambda: checkpoints.set("a", 1),
        lambda: checkpoints.update("a", str),
        lambda: checkpoints.get_or_set("a", 1),
        lambda: checkpoints.delete("a"),
        checkpoints.clear,
    ):
        with pytest.raises(ReadonlyError, match="storage_readonly"):
            write()


def test_without_a_storage_there_are_none() -> None:
    flows = FlowStore({"storages": [{"name": "MemoryStorage"}]})
    with pytest.raises(UnknownStorageError, match="'task'"):
        flows.checkpoints("flow", "task", "1")
    with pytest.raises(UnknownStorageError, match="'flow'"):
        flows.variables("flow")
    with pytest.raises(UnknownStorageError, match="default_storage"):
        flows.documents(CONFIGURATION)
    with pytest.raises(UnknownStorageError, match="'Missing'; declared are: MemoryStorage"):
        flows.documents(CONFIGURATION, "Missing")
    flows.documents(CONFIGURATION, "MemoryStorage")["a"] = 1
    with pytest.raises(InvalidKeyError, match="run_id"):
        flows.variables("flow", run_id="")


def test_a_plain_adapter_has_none() -> None:
    entry = {"name": "PlainStorage", "import": "tests.store.own_adapters"}
    flows = FlowStore({"storages": [entry], "global": {"default_storage": "PlainStorage"}})
    with pytest.raises(UnsupportedError, match="RecordStorage"):
        flows.variables("flow")["a"] = 1
    with pytest.raises(UnsupportedError, match="RecordStorage"):
        flows.checkpoints("flow", "task", "1", run_id="run").get("a")


def test_a_damaged_one_is_corrupt_also_with_a_default(memory: FlowStore) -> None:
    variables = memory.variables("flow")
    variables["a"] = 1
    storage: Any = memory.storage("Results")
    (record,) = storage.records(Query())
    storage.put(type(record)(record.ref, b"2", record.headers))
    with pytest.raises(CorruptError):
        variables.get("a", "default")
    with pytest.raises(CorruptError):
        variables.update("a", lambda old: old)


# With their run


def test_a_checkpoint_set_from_outside_belongs_to_the_run_that_the_task_is_of(flows: FlowStore) -> None:
    def runs(checkpoints: Checkpoints) -> set[str | None]:
        query = Query((CHECKPOINT,), "flow", "task", "1")
        return {one.run_id for one in flows.storage("Results").records(query)}  # type: ignore[attr-defined]

    flows.checkpoints("flow", "task", "1", run_id="run")["inside"] = 1
    flows.checkpoints("flow", "task", "1")["inside"] = 2
    flows.checkpoints("flow", "task", "1")["outside"] = 3
    assert runs(flows.checkpoints("flow", "task", "1")) == {"run"}


def test_deleting_a_run_takes_its_state_and_no_other(flows: FlowStore) -> None:
    for run in ("run", "other"):
        flows.checkpoints("flow", "task", f"of {run}", run_id=run)["a"] = run
        flows.variables("flow", run_id=run)["b"] = run
        flows.record_history("noted", "flow", run_id=run)
        flows.record_history("noted", "flow", run_id=run, task_name="task", task_id=f"of {run}")
    flows.variables("flow")["c"] = "stays"
    flows.documents(CONFIGURATION)["d"] = "stays"
    assert flows.delete_run("run") == 2
    assert len(flows.checkpoints("flow", "task", "of run")) == 0
    assert len(flows.variables("flow", run_id="run")) == 0
    assert flows.checkpoints("flow", "task", "of other")["a"] == "other"
    assert flows.variables("flow", run_id="other")["b"] == "other"
    assert flows.variables("flow")["c"] == "stays"
    assert flows.documents(CONFIGURATION)["d"] == "stays"
    assert len(list(flows.history(run_id="run"))) == 2
    with pytest.raises(NotFoundError):
        flows.run("run")


def test_clearing_takes_checkpoints_and_leaves_the_rest(flows: FlowStore) -> None:
    flows.checkpoints("flow", "task", "1")["a"] = 1
    flows.variables("flow")["b"] = 2
    flows.variables("flow", run_id="run")["c"] = 3
    flows.documents(CONFIGURATION)["d"] = 4
    flows.record_history("noted", "flow")
    assert flows.clear("Results") == 1
    assert len(flows.checkpoints("flow", "task", "1")) == 0
    assert flows.variables("flow")["b"] == 2
    assert flows.variables("flow", run_id="run")["c"] == 3
    assert flows.documents(CONFIGURATION)["d"] == 4
    assert [entry.event for entry in flows.history()] == ["noted"]


def test_deleting_a_task_takes_its_checkpoints(flows: FlowStore) -> None:
    flows.checkpoints("flow", "task", "1")["a"] = 1
    flows.checkpoints("flow", "task", "2")["a"] = 2
    assert flows.delete("flow", "task", "1")
    assert len(flows.checkpoints("flow", "task", "1")) == 0
    assert flows.checkpoints("flow", "task", "2")["a"] == 2
