"""PostgreSQL behind PgBouncer, which lends another session to each transaction, or to each client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import urandom
from typing import Any

import psycopg
import pytest

from flowstore.errors import ConfigurationError, NotFoundError, OutcomeUnknownError, UnreachableError
from flowstore.record import Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.storages import SqlStorage
from tests.servers import met, pgbouncer
from tests.storages.storage_kit import Recipe, opened, record

pytest_plugins = ("tests.storages.sql.sql_fixtures",)

# As it comes, and with what its documentation advises for drivers that send more at the start.
IGNORED = {"as it comes": "", "with options ignored": "extra_float_digits,options"}


@pytest.fixture(scope="module", params=["transaction", "session"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[*IGNORED.values()], ids=[*IGNORED])
def pooler(request: pytest.FixtureRequest, postgres_url: str, mode: str) -> Iterator[pgbouncer.Pgbouncer]:
    if pgbouncer.find() is None:
        met.skip("SqlStorage", pgbouncer.MISSING)
    with pgbouncer.before(postgres_url, mode, request.param) as pooler:
        yield pooler


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    name = f"records_{urandom(4).hex()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def recipe(pooler: pgbouncer.Pgbouncer, database: str) -> Recipe:
    return "SqlStorage", {"connection_string": pooler.url(database), "timeout": 10}


@pytest.fixture
def storage(recipe: Recipe) -> Iterator[RecordStorage]:
    with opened(recipe) as storage:
        yield storage


@contextmanager
def busy(pooler: pgbouncer.Pgbouncer, database: str) -> Iterator[psycopg.Connection[Any]]:
    """Hold one of the server's sessions, in a transaction of somebody else's."""
    with psycopg.connect(pooler.url(database), prepare_threshold=None) as connection:
        connection.execute("SELECT 1")
        yield connection
        connection.rollback()


def test_threads_share_a_few_sessions(storage: RecordStorage, mode: str) -> None:
    threads = 8 if mode == "transaction" else 2

    def work(number: int) -> None:
        for turn in range(30):
            storage.store("f", str(number), str(turn), [number, turn])
            assert storage.retrieve("f", str(number), str(turn)) == [number, turn]
            if turn % 10 == 0:
                storage.put_many([record(Key("g", str(number), str(n)), n) for n in range(5)])
                storage.delete_many([Ref("result", Key("g", str(number), str(n))) for n in range(5)])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert storage.count(Query()) == 30 * threads


def test_a_statement_is_never_another_process_s(pooler: pgbouncer.Pgbouncer, database: str, recipe: Recipe) -> None:
    """Two clients prepare different statements of the same number of parameters in different sessions."""
    with opened(recipe) as cleaner, opened(recipe) as reader:
        for name in ("old1", "old2", "old3", "a", "b", "precious"):
            cleaner.store("f", "t", name, "kept")
        for name in ("old1", "old2", "old3"):
            cleaner.delete(Key("f", "t", name))
        with busy(pooler, database):
            assert [reader.retrieve("f", "t", name) for name in ("a", "b", "a")] == ["kept"] * 3
        for _ in range(4):
            with busy(pooler, database):
                assert reader.retrieve("f", "t", "precious") == "kept"
            assert reader.retrieve("f", "t", "precious") == "kept"
            with pytest.raises(NotFoundError):
                cleaner.retrieve("f", "t", "old1")


def test_limits_hold_and_are_nobody_else_s(pooler: pgbouncer.Pgbouncer, database: str, storage: RecordStorage) -> None:
    assert isinstance(storage, SqlStorage)
    settings = "SELECT current_setting('statement_timeout'), current_setting('transaction_isolation')"
    with psycopg.connect(pooler.url(database), autocommit=True, prepare_threshold=None) as other:
        before = other.execute(settings).fetchone()
        assert storage._connection().rows(settings) == [("8s", "read committed")]
        storage.store("f", "t", "1", 1)
        storage.put_many([record(Key("f", "t", "2"), 1)])
        assert other.execute(settings).fetchone() == before
        assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_wait_that_takes_too_long_changes_nothing(pooler: pgbouncer.Pgbouncer, database: str, recipe: Recipe) -> None:
    with opened((recipe[0], recipe[1] | {"timeout": 1})) as storage, busy(pooler, database) as other:
        storage.store("f", "t", "1", "old")
        other.execute("SELECT * FROM flowstore_records FOR UPDATE")
        for write in (
            lambda: storage.store("f", "t", "1", "new"),
            lambda: storage.put_many([record(Key("f", "t", "1"), "new")]),
            lambda: storage.delete(Key("f", "t", "1")),
        ):
            with pytest.raises(UnreachableError, match="timeout") as caught:
                write()
            assert not isinstance(caught.value, OutcomeUnknownError)
        other.rollback()
        assert storage.retrieve("f", "t", "1") == "old"
        storage.store("f", "t", "1", "new")


def test_options_that_would_be_lost_are_refused(recipe: Recipe) -> None:
    string = f"{recipe[1]['connection_string']}?options=-c%20search_path%3Dpublic"
    with pytest.raises(ConfigurationError, match="ALTER ROLE"), opened((recipe[0], {"connection_string": string})):
        pass


def test_tables_are_made_once_by_many(recipe: Recipe, mode: str) -> None:
    start = threading.Barrier(4 if mode == "transaction" else 2)

    def work(number: int) -> None:
        start.wait(60)
        with opened(recipe) as storage:
            storage.store("f", "t", str(number), number)

    with ThreadPoolExecutor(start.parties) as pool:
        list(pool.map(work, range(start.parties)))
    with opened(recipe) as storage:
        assert storage.count(Query()) == start.parties


def test_a_pooler_can_be_named(postgres_recipe: Recipe) -> None:
    string = postgres_recipe[1]["connection_string"].partition("?")[0]
    storage = SqlStorage(string, pooler=True)
    storage.connect()
    link: Any = storage._connection()._borrow()[0]
    assert link.limit is not None
    assert link.connection.prepare_threshold is None
    storage.disconnect()
