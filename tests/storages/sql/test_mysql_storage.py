from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowstore.errors import StorageError, UnreachableError
from flowstore.record import Key, Query
from flowstore.storages import SqlStorage
from flowstore.storages.sql.mysql.statements import MysqlStatements
from flowstore.storages.sql.schema import creation
from tests.storages.sql.sql_contract import SqlServerContract
from tests.storages.sql.sql_servers import ask
from tests.storages.storage_kit import Recipe, opened, record

pytest_plugins = ("tests.storages.sql.sql_fixtures",)

LIMIT = 2**19


@pytest.mark.each_time(
    "lifecycle",
    "revisions",
    "keys",
    "batches",
    "fields",
    "expiry",
    "server clock",
    "claims",
    "threads",
    "fork",
    "faults",
)
class TestMysql(SqlServerContract):
    @pytest.fixture
    def place(self, mysql_recipe: Recipe) -> Recipe:
        return mysql_recipe


def questions(recipe: Recipe) -> int:
    """Count what flowstore's only connection has asked since the server's start."""
    database = recipe[1]["connection_string"].rpartition("/")[2]
    statement = f"SELECT query_id FROM information_schema.processlist WHERE db = '{database}' AND id <> CONNECTION_ID()"
    [(number,)] = ask(recipe, statement)
    return int(number)


@pytest.fixture
def limit(mysql_recipe: Recipe) -> Iterator[int]:
    """What the server takes at most at once: less than the headers of a record may be, while a test runs."""
    [(usual,)] = ask(mysql_recipe, "SELECT @@max_allowed_packet")
    ask(mysql_recipe, f"SET GLOBAL max_allowed_packet = {LIMIT}")
    yield LIMIT
    ask(mysql_recipe, f"SET GLOBAL max_allowed_packet = {usual}")


def test_a_record_that_is_too_large_is_not_sent(mysql_recipe: Recipe, limit: int) -> None:
    with opened(mysql_recipe) as storage:
        storage.store("f", "t", "1", "old")
        large = record(Key("f", "t", "2"), "new", note="x" * limit)
        writes: list[Callable[[], object]] = [
            lambda: storage.put(large),
            lambda: storage.put(large, if_revision=0),
            lambda: storage.put_many([record(Key("f", "t", "3"), "x"), large]),
        ]
        before = questions(mysql_recipe)
        for write in writes:
            with pytest.raises(StorageError, match=f"max_allowed_packet is {limit}") as caught:
                write()
            assert not isinstance(caught.value, UnreachableError)
        assert questions(mysql_recipe) == before
        assert storage.retrieve("f", "t", "1") == "old"
        assert storage.count(Query()) == 1


@pytest.mark.parametrize("refused", [False, True], ids=["small", "refused"])
def test_a_batch_under_a_small_packet_is_stored_or_leaves_nothing_open(
    mysql_recipe: Recipe, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """What is refused in the middle of a batch's transaction ends it: what is stored afterwards is seen by others."""
    with opened(mysql_recipe) as storage, opened(mysql_recipe) as other:
        assert isinstance(storage, SqlStorage)
        link: Any = storage._connection()._hold()
        link.largest = 20_000
        batch = [record(Key("f", "t", str(number)), 0) for number in range(1000)]
        if refused:
            monkeypatch.setattr("flowstore.storages.sql.mysql.database._ADDRESS", 1)
            with pytest.raises(StorageError, match="max_allowed_packet is 20000"):
                storage.put_many(batch)
            assert other.count(Query()) == 0
        else:
            assert len(storage.put_many(batch)) == other.count(Query()) == 1000
        storage.store("f", "t", "afterwards", 1)
        assert other.retrieve("f", "t", "afterwards") == 1


def test_what_just_fits_is_stored(mysql_recipe: Recipe, limit: int) -> None:
    with opened(mysql_recipe) as storage:
        # Each " and each NUL takes two characters.
        for filling, size in (("x", 1), ('"', 4)):
            refused = 0
            for missing in range(1600, 0, -100):
                value = filling * ((limit - missing) // size)
                try:
                    storage.put(record(Key("f", "t", str(missing)), "new", note=value))
                except UnreachableError:
                    raise
                except StorageError:
                    refused += 1
                else:
                    assert storage.get(Key("f", "t", str(missing))).headers["note"] == value
            assert 0 < refused < 16


def test_a_value_that_does_not_fit_is_kept_apart(mysql_recipe: Recipe) -> None:
    [(limit,)] = ask(mysql_recipe, "SELECT @@max_allowed_packet")
    with opened(mysql_recipe) as storage:
        storage.blob_threshold = None
        for size in (limit // 5, limit // 3, 2 * limit):
            value = '"' * size
            storage.store("f", "t", "1", value)
            assert storage.retrieve("f", "t", "1") == value


def test_completes_tables_that_a_killed_process_began(mysql_recipe: Recipe) -> None:
    statements = [*creation(MysqlStatements.dialect)]
    for done in range(1, len(statements) + 1):
        ask(mysql_recipe, "DROP TABLE IF EXISTS flowstore_meta, flowstore_records")
        ask(mysql_recipe, statements[0])
        if done > 1:
            ask(mysql_recipe, "INSERT INTO flowstore_meta VALUES ('schema', 'creating')")
        for statement in statements[1:done]:
            ask(mysql_recipe, statement)
        with opened(mysql_recipe) as storage:
            storage.store("f", "t", "1", 1)
        assert ask(mysql_recipe, "SELECT value FROM flowstore_meta") == [("1",)]
        assert len(ask(mysql_recipe, "SHOW INDEX FROM flowstore_records")) == 7


def test_a_replica_is_unreachable_for_writes(mysql_recipe: Recipe) -> None:
    with opened(mysql_recipe) as storage:
        storage.store("f", "t", "1", 1)
        assert isinstance(storage, SqlStorage)
        for _ in range(2):
            # As a whole server's read_only does, without keeping other tests from writing.
            storage._connection().rows("SET SESSION TRANSACTION READ ONLY")
            with pytest.raises(UnreachableError, match="is read-only, as a replica is") as caught:
                storage.store("f", "t", "1", 2)
            assert type(caught.value) is UnreachableError
        assert storage.retrieve("f", "t", "1") == 1
        storage.store("f", "t", "1", 2)
