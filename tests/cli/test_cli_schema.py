"""``flowstore schema``, on tables of several versions."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowstore import FlowStore
from tests.cli.helpers import Place
from tests.storages.sql import test_sql_migrations as migrations

OWN = f"""
from pathlib import Path

from flowstore.storages import SqlStorage

class OlderStorage(SqlStorage):
    def schema_history(self):
        from flowstore.storages.sql.migrating import history
        return history(Path({str(migrations.OLDER)!r}))

    def upgrade_schema(self):
        from flowstore.storages.sql.migrating import upgrade
        return upgrade(self._to_migrate(), Path({str(migrations.OLDER)!r}))
"""


@pytest.fixture
def older(tmp_path: Path) -> Place:
    """An adapter of one's own whose tables are of an older version."""
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "flowstore.yaml").write_text(
        "storages:\n"
        "  - {name: Old, classname: OlderStorage, import: own,"
        " configuration: {connection_string: 'sqlite:///old.db', synchronous: NORMAL}}\n"
        "  - {name: Files, classname: FileStorage, configuration: {path: files}}\n"
        "global: {default_storage: Old}\n",
        encoding="utf-8",
    )
    migrations.make_older(("SqlStorage", {"connection_string": f"sqlite:///{tmp_path}/old.db"}))
    return Place(tmp_path)


def test_shows_that_there_are_no_tables_yet(place: Place) -> None:
    ended = place.run("schema", "current")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1].split() == ["Results", "none", "yet", "1", "yes"]
    ended = place.run("schema", "upgrade")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "Results: no tables yet; they are created on first use\n"
    assert not (place.path / "results.db").exists()


def test_has_nothing_to_do_for_the_latest_version(place: Place, store: FlowStore) -> None:
    store.store("f", "t", "1", 1)
    told = json.loads(place.fine("schema", "current", "-o", "json"))
    assert told == [{"storage": "Results", "version": "1", "latest": "1", "up_to_date": True}]
    assert place.fine("schema", "history", "Results", "-o", "name") == "Results\t1\n"
    ended = place.run("schema", "upgrade", "Results")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "Results: already up to date\n")


def test_upgrades_an_older_version(older: Place) -> None:
    refused = older.run("ls", "--storage", "Old")
    assert refused.returncode == 1
    assert "older flowstore (schema 0)" in refused.stderr
    assert "run 'flowstore schema upgrade'" in refused.stderr
    [told] = json.loads(older.run("schema", "current", "-o", "json").stdout)
    assert told == {"storage": "Old", "version": "0", "latest": "1", "up_to_date": False}
    ended = older.run("schema", "upgrade", "-o", "jsonl")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == {"storage": "Old", "version": "1", "about": "States, and tasks by index"}
    assert older.run("schema", "upgrade").stderr == "Old: already up to date\n"
    assert len(older.run("ls", "--storage", "Old", "-o", "name").stdout.splitlines()) == 3


def test_tells_of_a_version_that_is_not_known(place: Place, store: FlowStore) -> None:
    store.store("f", "t", "1", 1)
    with closing(sqlite3.connect(place.path / "results.db")) as connection, connection:
        connection.execute("UPDATE flowstore_meta SET value = '7'")
    ended = place.run("schema", "upgrade")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "has the schema '7', which this version of flowstore does not know; it knows 1" in ended.stderr


def test_tells_which_storages_have_no_versions(older: Place) -> None:
    ended = older.run("schema", "current", "Files")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "FileStorage lacks the capability VersionedSchema" in ended.stderr
    ended = older.run("schema", "history", "Nowhere")
    assert ended.stdout == ""
    assert "no storage named 'Nowhere'; declared are: Old, Files" in ended.stderr
