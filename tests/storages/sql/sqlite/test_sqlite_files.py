from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flowstore.errors import CorruptError, StorageError, UnreachableError
from flowstore.record import Key, Query
from flowstore.storages import SqlStorage
from tests.storages.sql.sqlite.sqlite_kit import look, sql
from tests.storages.storage_kit import contents, opened, record


def test_json_is_text_that_sqlite_can_query(storage: SqlStorage, path: Path) -> None:
    storage.store("f", "t", "1", {"price": 42, "é": "ü"})
    storage.store("f", "t", "2", (1, 2))
    storage.put(record(Key("f", "t", "3"), "x", content_type="application/octet-stream"))
    rows = look(path, "SELECT json_extract(value, '$.price'), typeof(value), typeof(payload) FROM flowstore_records")
    assert rows == [(42, "text", "null"), (None, "text", "null"), (None, "null", "blob")]
    assert look(path, "SELECT json_extract(value, '$.é') FROM flowstore_records LIMIT 1") == [("ü",)]
    assert json.loads(look(path, "SELECT headers FROM flowstore_records")[0][0])["serializer"] == "json"


def test_the_file_says_whose_it_is(storage: SqlStorage, path: Path) -> None:
    assert look(path, "PRAGMA application_id") == [(0x666C7731,)]
    assert look(path, "SELECT * FROM flowstore_meta") == [("schema", "1")]
    assert look(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(run_id="r"), "flowstore_records_run (run_id=?"),
        (Query(flow_name="f", task_name="t", task_id="1"), "flowstore_records_task (task_id=?"),
        (Query(kinds=("run",), flow_name="f"), "flowstore_records_kind (kind=? AND flow_name=?"),
        (Query(kinds=("error",), descending=True), "flowstore_records_kind (kind=?"),
        (Query(expired_at=1.0), "flowstore_records_expiry (expires_at<?"),
        (Query(pattern="id-*"), "flowstore_records_task (task_id>? AND task_id<?"),
        (Query(pattern="id-?x*"), "flowstore_records_task (task_id>? AND task_id<?"),
        (Query(order="task_id"), "flowstore_records USING INDEX flowstore_records_task"),
        (Query(kinds=("run",), order="task_id"), "flowstore_records_kind (kind=?"),
    ],
)
def test_selects_by_index(storage: SqlStorage, path: Path, query: Query, index: str) -> None:
    database = storage._connection()
    statement, values = database.sql.scan(query, None, 10, False)
    plan = [row[3] for row in database.rows(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN flowstore_records") and "INDEX" not in step for step in plan), plan


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE users (name); INSERT INTO users VALUES ('x')")


def other_program_in_wal_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE users (name); INSERT INTO users VALUES ('x')")


def killed_in_wal_mode(path: Path) -> None:
    script = f"import sqlite3, os; c = sqlite3.connect({str(path)!r}); c.execute('PRAGMA journal_mode = WAL')\n"
    script += "c.execute('CREATE TABLE users (name)'); c.commit(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    assert Path(f"{path}-wal").stat().st_size


def ours(path: Path) -> None:
    storage = sql(path)
    storage.connect()
    for number in range(200):
        storage.store("f", "t", str(number), "x" * 1000)
    storage.disconnect()


def newer(path: Path) -> None:
    ours(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE flowstore_meta SET value = '2'")
        connection.commit()


def without_version(path: Path) -> None:
    ours(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM flowstore_meta")
        connection.commit()


def text(path: Path) -> None:
    path.write_text("these are not the records that you are looking for\n" * 100)


def short(path: Path) -> None:
    path.write_bytes(b"x")


def less_than_a_page(path: Path) -> None:
    path.write_bytes(b"x" * 600)


def cut_off(path: Path) -> None:
    ours(path)
    path.write_bytes(path.read_bytes()[:6000])


def overwritten(path: Path) -> None:
    ours(path)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xa5" * 8000 + content[8100:])


def folder(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("x")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (other_program, StorageError, "another program"),
        (other_program_in_wal_mode, StorageError, "another program"),
        (killed_in_wal_mode, StorageError, "another program"),
        (newer, CorruptError, "newer flowstore"),
        (without_version, CorruptError, "unknown schema version"),
        (text, CorruptError, "not a SQLite database"),
        (short, CorruptError, "not a SQLite database"),
        (less_than_a_page, CorruptError, "not a SQLite database"),
        (cut_off, CorruptError, "damaged"),
        (overwritten, CorruptError, "damaged"),
        (folder, UnreachableError, "not a file"),
    ],
)
def test_leaves_what_it_can_not_use_as_it_is(
    path: Path, damage: Callable[[Path], None], error: type[StorageError], message: str
) -> None:
    damage(path)
    before = contents(path.parent)
    storage = sql(path)
    for _ in range(2):
        with pytest.raises(error, match=message) as caught:
            storage.connect()
        assert type(caught.value) is error
        assert str(path) in str(caught.value)
        assert not storage.is_connected()
    assert contents(path.parent) == before


def test_finds_damage_that_connect_does_not_see(path: Path) -> None:
    ours(path)
    content = path.read_bytes()
    path.write_bytes(content[:40_000] + b"\xa5" * (len(content) - 40_000))
    storage = sql(path)
    storage.connect()
    with pytest.raises(CorruptError, match="damaged"):
        list(storage.records(Query()))
    storage.disconnect()


def test_names_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    storage = sql(tmp_path / "missing" / "records.db")
    with pytest.raises(UnreachableError, match=r"folder .*missing does not exist"):
        storage.connect()
    (tmp_path / "missing").mkdir()
    storage.connect()
    storage.disconnect()


@pytest.mark.parametrize("start", [b"", None], ids=["empty file", "database without tables"])
def test_takes_an_empty_database(path: Path, start: bytes | None) -> None:
    if start is None:
        look(path, "VACUUM")
        assert path.stat().st_size
    else:
        path.write_bytes(start)
    storage = sql(path)
    storage.connect()
    storage.store("f", "t", "1", 1)
    storage.disconnect()


def test_others_may_add_tables_of_their_own(path: Path) -> None:
    ours(path)
    other_program(path)
    with opened(("SqlStorage", {"connection_string": f"sqlite:///{path}"})) as storage:
        assert storage.retrieve("f", "t", "1") == "x" * 1000
    assert look(path, "SELECT * FROM users") == [("x",)]


@pytest.mark.parametrize(
    ("column", "value"),
    [("headers", "{"), ("headers", "[]"), ("value", None), ("headers", b"\xff")],
)
def test_a_damaged_row_is_corrupt(storage: SqlStorage, path: Path, column: str, value: object) -> None:
    storage.store("f", "t", "1", 1)
    storage.store("f", "t", "2", 2)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE flowstore_records SET {column} = CAST(? AS TEXT) WHERE task_id = '1'", [value])
        connection.commit()
    with pytest.raises(CorruptError):
        storage.retrieve("f", "t", "1")
    page = storage.scan(Query())
    assert [one.key.task_id for one in page.records] == ["2"]
    assert [one.error.ref.key.task_id for one in page.damaged] == ["1"]
    assert storage.retrieve("f", "t", "2") == 2


def test_a_row_under_a_wrong_address_is_not_handed_out(storage: SqlStorage, path: Path) -> None:
    storage.store("f", "t", "1", "secret of 1")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE flowstore_records SET task_id = '2'")
        connection.commit()
    with pytest.raises(CorruptError, match="answered with"):
        storage.retrieve("f", "t", "1")
