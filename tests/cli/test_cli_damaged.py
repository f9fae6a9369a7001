"""A damaged record in a storage: each command tells of it in a line, does the rest, and says so by its status."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowstore import FlowStore
from tests.cli.helpers import Place

CONFIGURATION = """
storages:
  - {name: Results, classname: SqlStorage, configuration: {connection_string: 'sqlite:///results.db'}}
  - {name: Others, classname: SqlStorage, configuration: {connection_string: 'sqlite:///others.db'}}
global: {default_storage: Results}
"""
TOLD = "damaged record: the stored headers of result 'f' / 't' / '1' can't be used: 'attempt' is a string ('x')"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "flowstore.yaml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    store = FlowStore("flowstore.yaml")
    for number in range(3):
        store.store("f", "t", str(number), number)
    store.close()
    with closing(sqlite3.connect("results.db")) as database, database:
        database.execute(
            "UPDATE flowstore_records SET headers = json_set(headers, '$.attempt', 'x') WHERE task_id = '1'"
        )
    return Place(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        ("ls", "--storage", "Results", "-o", "name"),
        ("stats", "Results", "--sizes"),
        ("cleanup", "--older-than", "0s", "--yes"),
    ],
)
def test_what_lists_passes_over_it(place: Place, command: tuple[str, ...]) -> None:
    ended = place.run(*command)
    assert ended.returncode == 6, ended.stderr
    assert ended.stderr.count(TOLD) == 1
    if command[0] == "ls":
        assert ended.stdout.splitlines() == ["f\tt\t2", "f\tt\t0"]


@pytest.mark.parametrize("command", [("copy", "Results", "Others"), ("export", "Results", "all.jsonl")])
def test_what_copies_counts_it_as_failed(place: Place, command: tuple[str, ...]) -> None:
    ended = place.run(*command, "-o", "json")
    assert ended.returncode == 6, ended.stderr
    assert ended.stderr.count("'attempt' is a string ('x')") == 1
    (row,) = json.loads(ended.stdout)
    assert (row["failed"], row.get("copied", row.get("records"))) == (1, 2)


def test_it_is_deleted_by_its_key(place: Place) -> None:
    store = FlowStore("flowstore.yaml")
    assert store.delete("f", "t", "1")
    store.close()
    assert place.fine("ls", "--storage", "Results", "-o", "name").splitlines() == ["f\tt\t2", "f\tt\t0"]
