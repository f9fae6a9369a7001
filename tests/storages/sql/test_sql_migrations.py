"""From a made older schema to the latest one, on each database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from flowstore.errors import CorruptError, StorageError, UnreachableError
from flowstore.record import Query, Record
from flowstore.storages import SqlStorage
from flowstore.storages.sql.migrating import LOCATION, history, upgrade
from flowstore.storages.sql.schema import SCHEMA_VERSION
from flowstore.testing.concurrency import fork_server
from tests.storages.sql.sql_servers import around
from tests.storages.storage_kit import Recipe, make, opened

pytest_plugins = ("tests.storages.sql.sql_fixtures",)

OLDER = Path(__file__).with_name("older_schema")
BROKEN = Path(__file__).with_name("broken_migration")


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Recipe:
    if request.param == "sqlite":
        return "SqlStorage", {"connection_string": f"sqlite:///{tmp_path}/records.db"}
    found: Recipe = request.getfixturevalue(f"{request.param}_recipe")
    return found


@pytest.fixture
def fresh(recipe: Recipe) -> dict[str, Any]:
    """What the tables are that flowstore creates; the place is empty again."""
    with opened(recipe):
        pass
    found = describe(recipe)
    run(recipe, "DROP TABLE flowstore_records")
    run(recipe, "DROP TABLE flowstore_meta")
    return found


def product(recipe: Recipe) -> str:
    return str(recipe[1]["connection_string"]).partition(":")[0]


def run(recipe: Recipe, statement: str) -> list[Any]:
    string = recipe[1]["connection_string"]
    if product(recipe) == "sqlite":
        with closing(sqlite3.connect(string.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()
    with around(recipe) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def engine(recipe: Recipe) -> Any:
    string = str(recipe[1]["connection_string"])
    for given, wanted in (("postgresql:", "postgresql+psycopg:"), ("postgres:", "postgresql+psycopg:")):
        if string.startswith(given):
            string = wanted + string.removeprefix(given)
    return create_engine(string.replace("mysql://", "mysql+pymysql://").replace("mariadb://", "mysql+pymysql://"))


def describe(recipe: Recipe) -> dict[str, Any]:
    """Return all that a database tells of flowstore's tables, but for the order of columns."""
    found: dict[str, Any] = {}
    one = engine(recipe)
    with one.connect() as connection:
        inspector = inspect(connection)
        for table in ("flowstore_meta", "flowstore_records"):
            columns = {
                column["name"]: {**column, "type": (str(column["type"]), getattr(column["type"], "collation", None))}
                for column in inspector.get_columns(table)
            }
            indexes = sorted(
                repr(
                    {
                        **index,
                        "dialect_options": {name: str(one) for name, one in index.get("dialect_options", {}).items()},
                    }
                )
                for index in inspector.get_indexes(table)
            )
            unique = sorted(map(repr, inspector.get_unique_constraints(table)))
            options = {name: value for name, value in inspector.get_table_options(table).items() if "auto" not in name}
            found[table] = (columns, indexes, unique, inspector.get_pk_constraint(table), options)
        if product(recipe) == "sqlite":
            statement = "SELECT count(*) FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
            found["autoincrement"] = connection.scalar(text(statement))
        if product(recipe).startswith("postgres"):
            statement = (
                "SELECT attname, attcompression, attstorage, indexdef FROM pg_attribute LEFT JOIN pg_indexes"
                " ON indexname LIKE 'flowstore%' AND schemaname = current_schema() AND attnum = 1"
                " WHERE attrelid = 'flowstore_records'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1, 4"
            )
            found["storage"] = [tuple(map(str, row)) for row in connection.execute(text(statement))]
    one.dispose()
    return found


def make_older(recipe: Recipe) -> list[Record]:
    """Store records, and make their tables what they were before ``older_schema/r1_states.py``."""
    with opened(recipe) as storage:
        for number in range(3):
            storage.store("f", "t", str(number), {"number": number})
        stored = list(storage.records(Query()))
    on = " ON flowstore_records" if product(recipe) in ("mysql", "mariadb") else ""
    run(recipe, f"DROP INDEX flowstore_records_task{on}")
    run(recipe, "ALTER TABLE flowstore_records DROP COLUMN state")
    run(recipe, "UPDATE flowstore_meta SET value = '0'")
    return stored


def to_latest(recipe: Recipe, location: Path = OLDER) -> list[str]:
    """Upgrade the tables by the revisions of a folder; return the versions that they went through."""
    storage = make(recipe)
    assert isinstance(storage, SqlStorage)
    return [one.version for one in upgrade(storage._to_migrate(), location)]


def test_the_latest_revision_is_what_is_created() -> None:
    assert history()[-1].version == str(SCHEMA_VERSION)
    assert all(one.about for one in history())


def test_all_revisions_together_make_what_is_created(recipe: Recipe, fresh: dict[str, Any]) -> None:
    one = engine(recipe)
    with one.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for script in reversed(
            list(ScriptDirectory(str(LOCATION), version_locations=[str(LOCATION)]).walk_revisions())
        ):
            script.module.upgrade()
        connection.execute(text(f"INSERT INTO flowstore_meta (name, value) VALUES ('schema', '{SCHEMA_VERSION}')"))
    one.dispose()
    assert describe(recipe) == fresh
    with opened(recipe) as storage:
        storage.store("f", "t", "1", "x")
        assert storage.retrieve("f", "t", "1") == "x"


def test_an_older_schema_becomes_the_latest_one(recipe: Recipe, fresh: dict[str, Any]) -> None:
    stored = make_older(recipe)
    assert describe(recipe) != fresh
    storage = make(recipe)
    assert isinstance(storage, SqlStorage)
    assert storage.schema_version() == "0"
    assert to_latest(recipe) == ["1"]
    assert storage.schema_version() == "1"
    assert describe(recipe) == fresh
    with opened(recipe) as storage:
        assert list(storage.records(Query())) == stored
        storage.store("f", "t", "1", "new")
        assert storage.retrieve("f", "t", "1") == "new"
    assert to_latest(recipe) == []


def test_refuses_an_older_schema_and_names_the_command(recipe: Recipe) -> None:
    make_older(recipe)
    before = describe(recipe)
    for _ in range(2):
        with pytest.raises(
            StorageError, match=r"older flowstore \(schema 0\).*run 'flowstore schema upgrade'"
        ) as caught:
            make(recipe).connect()
        assert type(caught.value) is StorageError
    assert describe(recipe) == before
    storage = make(recipe)
    assert isinstance(storage, SqlStorage)
    with pytest.raises(StorageError, match="has the schema '0', which this version of flowstore does not know"):
        storage.upgrade_schema()


def test_refuses_a_newer_schema(recipe: Recipe) -> None:
    with opened(recipe):
        pass
    run(recipe, f"UPDATE flowstore_meta SET value = '{SCHEMA_VERSION + 1}'")
    with pytest.raises(CorruptError, match="newer flowstore"):
        make(recipe).connect()
    storage = make(recipe)
    assert isinstance(storage, SqlStorage)
    assert storage.schema_version() == str(SCHEMA_VERSION + 1)
    with pytest.raises(StorageError, match="does not know; it knows"):
        storage.upgrade_schema()


def test_changes_nothing_where_nothing_is(recipe: Recipe, tmp_path: Path) -> None:
    storage = make(recipe)
    assert isinstance(storage, SqlStorage)
    assert storage.schema_version() is None
    with pytest.raises(StorageError, match="has no tables of flowstore"):
        storage.upgrade_schema()
    assert not (tmp_path / "records.db").exists()


def test_a_database_in_memory_needs_no_upgrade() -> None:
    storage = SqlStorage("sqlite://")
    assert storage.schema_version() is None
    with pytest.raises(StorageError, match="has no tables of flowstore"):
        storage.upgrade_schema()


def test_does_all_or_nothing(recipe: Recipe) -> None:
    if product(recipe) in ("mysql", "mariadb"):
        pytest.skip("MySQL and MariaDB commit each change of a table by itself")
    make_older(recipe)
    before = describe(recipe)
    with pytest.raises(Exception, match="no_such_table"):
        to_latest(recipe, BROKEN)
    assert describe(recipe) == before
    assert to_latest(recipe) == ["1"]


def _at_once(recipe: Recipe) -> list[str]:
    READY.wait()
    return to_latest(recipe)


READY: Any = None


def _get_ready(barrier: Any) -> None:
    global READY
    READY = barrier


@pytest.fixture
def four() -> Iterator[ProcessPoolExecutor]:
    """Four processes that begin together."""
    context = fork_server()
    with ProcessPoolExecutor(4, context, _get_ready, (context.Barrier(4),)) as pool:
        yield pool


def test_of_several_at_once_one_does_it(recipe: Recipe, fresh: dict[str, Any], four: ProcessPoolExecutor) -> None:
    for _ in range(3):
        make_older(recipe)
        assert sorted(four.map(_at_once, [recipe] * 4)) == [[], [], [], ["1"]]
        assert describe(recipe) == fresh


def test_an_unreachable_server_is_told(recipe: Recipe) -> None:
    if product(recipe) == "sqlite":
        pytest.skip("there is no server")
    storage = SqlStorage(f"{product(recipe)}://user:canary-7b1c@127.0.0.1:1/nothing")
    for ask in (storage.schema_version, storage.upgrade_schema):
        with pytest.raises(UnreachableError) as caught:
            ask()
        assert "canary-7b1c" not in str(caught.value)


def test_says_what_has_to_be_installed() -> None:
    code = (
        "import sys; sys.modules['alembic'] = None\n"
        "from flowstore import ConfigurationError\n"
        "from flowstore.storages import SqlStorage\n"
        "try: SqlStorage('sqlite:///nowhere.db').schema_history()\n"
        "except ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "a change of the schema needs alembic, which is not installed: pip install 'flowstore[migrations]'\n"
    assert done.stdout == expected, done.stderr
