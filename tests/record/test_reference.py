"""References: small, passed on as JSON, loaded by whoever has the same storages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kombu.utils.json import dumps

from flowstore import (
    FlowStore,
    InvalidKeyError,
    Key,
    NotFoundError,
    Reference,
    SerializationError,
    UnknownStorageError,
)
from tests.storages.places import configuration

pytest_plugins = ("tests.store.every_store", "tests.storages.every_storage")


def test_it_loads_what_is_stored_also_after_a_journey(flows: FlowStore) -> None:
    reference = flows.reference("flow", "task", "1")
    with pytest.raises(NotFoundError):
        flows.load(reference)
    flows.store("flow", "task", "1", {"rows": [(1, 2)]})
    assert flows.load(reference) == {"rows": [(1, 2)]}
    assert flows.load(json.loads(json.dumps(reference.to_dict()))) == {"rows": [(1, 2)]}
    flows.store("flow", "task", "1", None)
    assert flows.load(reference) is None


def test_celerys_json_takes_it_as_it_is(memory: FlowStore) -> None:
    reference = memory.reference("flow", "task", "1")
    assert Reference.from_dict(json.loads(dumps([reference]))[0]) == reference


def test_it_holds_names_only(memory: FlowStore) -> None:
    key = Key('f"lo\nw', "tä/sk", "")
    reference = memory.reference(key.flow_name, key.task_name, key.task_id)
    assert (reference.storage, reference.key) == ("Results", key)
    assert Reference.from_dict(reference.to_dict()) == reference
    assert len(json.dumps(reference.to_dict())) < 200


def test_it_finds_its_storage_when_the_task_has_another_one_by_now(memory: FlowStore) -> None:
    both = {"storages": [{"name": name, "classname": "MemoryStorage"} for name in ("Results", "Other")]}
    flows = FlowStore({**both, "global": {"default_storage": "Other"}})
    flows.storage("Results").store("flow", "task", "1", "old")
    flows.store("flow", "task", "1", "new")
    assert flows.load(memory.reference("flow", "task", "1")) == "old"
    elsewhere = FlowStore({"storages": [{"name": "MemoryStorage"}]})
    with pytest.raises(UnknownStorageError, match="'Results'"):
        elsewhere.load(memory.reference("flow", "task", "1"))


def test_a_renamed_task_is_found_by_both_names() -> None:
    tasks = [{"name": "long.name", "storage_task_name": "short"}]
    flows = FlowStore({**configuration(("MemoryStorage", {})), "tasks": tasks})
    assert flows.reference("flow", "long.name", "1") == flows.reference("flow", "short", "1")


def test_a_plain_adapter_has_them_too() -> None:
    entry = {"name": "PlainStorage", "import": "tests.store.own_adapters"}
    flows = FlowStore({"storages": [entry], "global": {"default_storage": "PlainStorage"}})
    flows.store("flow", "task", "1", 5)
    assert flows.load(flows.reference("flow", "task", "1")) == 5


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"$flowstore": "other", "storage": "S", "flow_name": "f", "task_name": "t", "task_id": "1"},
        {"storage": "S", "flow_name": "f", "task_name": "t", "task_id": "1"},
        {"$flowstore": "reference", "storage": "S", "flow_name": "f", "task_name": "t", "task_id": 1},
        {"$flowstore": "reference", "storage": "S", "flow_name": "f", "task_name": "t"},
    ],
)
def test_something_else_is_refused(data: dict[str, Any], memory: FlowStore) -> None:
    with pytest.raises(SerializationError, match="not a reference"):
        memory.load(data)


def test_as_a_result_it_is_stored_as_a_mapping(memory: FlowStore) -> None:
    reference = memory.reference("flow", "task", "1")
    memory.store("flow", "task", "1", "far away")
    for task_id, result in (("2", reference), ("3", reference.to_dict())):
        memory.store("flow", "task", task_id, result)
        assert memory.retrieve("flow", "task", task_id) == reference.to_dict()
        assert memory.load(memory.retrieve("flow", "task", task_id)) == "far away"
    strict = FlowStore(
        {"storages": [{"name": "S", "classname": "MemoryStorage", "strict": True}], "global": {"default_storage": "S"}}
    )
    with pytest.raises(SerializationError, match=r"Reference.*to_dict"):
        strict.store("flow", "task", "2", reference)


def test_a_task_without_a_storage_has_none() -> None:
    flows = FlowStore({"storages": [{"name": "MemoryStorage"}]})
    with pytest.raises(UnknownStorageError, match="'task'"):
        flows.reference("flow", "task", "1")


def test_a_name_of_anything_but_text_is_refused(memory: FlowStore) -> None:
    for part in (1, None, "\ud800"):
        with pytest.raises(InvalidKeyError):
            memory.reference("flow", "task", part)  # type: ignore[arg-type]
