"""What PostgreSQL and MySQL have in common beyond the contract."""

from __future__ import annotations

import json
import os

import pytest

from flowstore.errors import (
    CorruptError,
    StorageError,
)
from flowstore.record import Key, Query, Ref
from flowstore.storage import RecordStorage
from tests.storages.sql.sql_servers import ask, is_postgres
from tests.storages.storage_kit import Recipe, make, opened, record

pytest_plugins = ("tests.storages.sql.sql_fixtures",)

KEY = Key("f", "t", "1")


# Tables


def test_values_are_readable_by_sql(recipe: Recipe, storage: RecordStorage) -> None:
    storage.store("flow é", "t", "1", {"price": 42, "é": "ü\0"})
    storage.put(record(Key("f", "t", "2"), "x", content_type="application/octet-stream"))
    price = "value::jsonb->>'price'" if is_postgres(recipe) else "JSON_VALUE(value, '$.price')"
    # PostgreSQL's jsonb refuses a NUL, text does not.
    storage.store("f", "t", "3", {"price": 43})
    rows = ask(recipe, f"SELECT {price}, payload IS NULL FROM flowstore_records WHERE task_id = '3'")
    assert [(str(value), bool(flag)) for value, flag in rows] == [("43", True)]
    assert ask(recipe, "SELECT value FROM flowstore_records WHERE task_id = '2'") == [(None,)]
    [(headers,)] = ask(recipe, "SELECT headers FROM flowstore_records WHERE task_id = '1'")
    assert json.loads(headers)["serializer"] == "json"
    name = "flow_name" if is_postgres(recipe) else "CONVERT(flow_name USING utf8mb4)"
    assert ask(recipe, f"SELECT {name} FROM flowstore_records WHERE task_id = '1'") == [("flow é",)]


def test_names_of_any_length_are_kept_and_found(storage: RecordStorage) -> None:
    start = os.urandom(20_000).hex()
    keys = [Key(start + "a", start + "a", start + "a"), Key(start + "b", start + "b", start + "b")]
    for key in keys:
        storage.put(record(key, "x", start + key.flow_name[-1], run_id=key.flow_name))
    for key in keys:
        kind = start + key.flow_name[-1]
        for query in (
            Query(flow_name=key.flow_name, kinds=(kind,)),
            Query(task_ids=(key.task_id, "x")),
            Query(task_id=key.task_id),
            Query(run_id=key.flow_name),
        ):
            assert [one.ref for one in storage.records(query)] == [Ref(kind, key)]


@pytest.mark.parametrize("table", ["flowstore_meta", "flowstore_records"])
def test_leaves_a_table_of_another_program_alone(recipe: Recipe, table: str) -> None:
    ask(recipe, f"CREATE TABLE {table} (name VARCHAR(9), value VARCHAR(9))")
    ask(recipe, f"INSERT INTO {table} VALUES ('schema', 'theirs')")
    for _ in range(2):
        with pytest.raises(StorageError, match=f"has a table {table} but no"):
            make(recipe).connect()
    assert ask(recipe, f"SELECT name, value FROM {table}") == [("schema", "theirs")]
    places = "current_schema()" if is_postgres(recipe) else "DATABASE()"
    assert len(ask(recipe, f"SELECT 1 FROM information_schema.tables WHERE table_schema = {places}")) == 1


def test_leaves_other_tables_alone(recipe: Recipe) -> None:
    ask(recipe, "CREATE TABLE users (name VARCHAR(9))")
    ask(recipe, "INSERT INTO users VALUES ('x')")
    with opened(recipe) as storage:
        storage.store("f", "t", "1", 1)
        assert storage.retrieve("f", "t", "1") == 1
    assert ask(recipe, "SELECT * FROM users") == [("x",)]


@pytest.mark.parametrize(("version", "message"), [("2", "newer flowstore"), ("x", "unknown schema version 'x'")])
def test_refuses_another_schema(recipe: Recipe, version: str, message: str) -> None:
    with opened(recipe) as storage:
        storage.store("f", "t", "1", 1)
    ask(recipe, f"UPDATE flowstore_meta SET value = '{version}'")
    with pytest.raises(CorruptError, match=message):
        make(recipe).connect()
    assert len(ask(recipe, "SELECT * FROM flowstore_records")) == 1
