"""The JSON Schema for editors agrees with what is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from flowstore.config.json_schema import json_schema


class Pool(BaseModel):
    size: int


class Adapter:
    """Keep results somewhere.

    And more.
    """

    def __init__(self, host: str, port: int = 1, pool: Pool | None = None, own: object = None, **others: Any) -> None:
        raise AssertionError("constructed")


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft7Validator(schema).is_valid(yaml.safe_load(text))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found = json_schema()
    jsonschema.Draft7Validator.check_schema(found)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "version: 1",
        "x-anchors: {a: 1}",
        "storages: [{name: MemoryStorage}]",
        "storages: [{name: S, classname: SqlStorage, configuration: {connection_string: 'x:///{A}', echo: false}}]",
        "storages: [{name: S, classname: SqlStorage, configuration: {connection_string: {file: /x}, echo: '{ECHO}'}}]",
        "storages: [{name: S, import: mine, classname: SqlStorage, configuration: {anything: 1}}]",
        "storages: [{name: S, classname: Mine, import: mine, cache: {classname: LRU, size: 5}, on_store_error: log}]",
        "tasks: [{name: t, storage: null, storage_readonly: '{FLAG}'}]",
        "flows: [{name: f, storage: S}]\nglobal: {default_storage: S}",
        "storages: [{name: MemoryStorage, history: errors}]\nflows: [{name: f, history: all}]",
        "flows: [{name: f, history: null}, {name: g, history: '{HISTORY}'}]",
    ],
)
def test_what_loads_is_valid(schema: dict[str, Any], text: str) -> None:
    assert is_valid(text, schema)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "version: 2",
        "stroages: []",
        "storages: [{classname: SqlStorage}]",
        "storages: [{name: S, classname: SqlStorage}]",
        "storages: [{name: SqlStorage}]",
        "storages: [{name: S, classname: SqlStorage, configuration: {connection_string: a, ehco: true}}]",
        "storages: [{name: S, classname: SqlStorage, configuration: {connection_string: a, echo: many}}]",
        "storages: [{name: S, classname: MemoryStorage, configuration: {x: 1}}]",
        "storages: [{name: S, cache: {classname: LRV, size: 5}}]",
        "storages: [{name: S, on_conflict: never}]",
        "storages: [{name: S, history: some}]",
        "flows: [{name: f, history: some}]",
        "tasks: [{name: t, storage_readonly: 3}]",
        "global: {default: S}",
    ],
)
def test_what_is_refused_is_not(schema: dict[str, Any], text: str) -> None:
    assert not is_valid(text, schema)


def test_every_adapter_has_a_branch(schema: dict[str, Any]) -> None:
    branches = schema["properties"]["storages"]["items"]["allOf"]
    named = {branch["if"]["anyOf"][0]["properties"]["classname"]["const"] for branch in branches}
    assert named >= set(import_module("flowstore.storages").__all__)


def test_models_are_defined_and_open_constructors_stay_open() -> None:
    schema = json_schema({"Adapter": Adapter})
    jsonschema.Draft7Validator.check_schema(schema)
    (branch,) = schema["properties"]["storages"]["items"]["allOf"]
    configuration = branch["then"]["properties"]["configuration"]
    assert configuration["description"] == "Keep results somewhere."
    assert configuration["properties"]["port"]["default"] == 1
    assert configuration["properties"]["own"] == {}
    head = "storages: [{name: Adapter, configuration: {host: h, more: 1, "
    assert is_valid(head + "pool: {size: 1}}}]", schema)
    assert not is_valid(head + "pool: {size: many}}}]", schema)
