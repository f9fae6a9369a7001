from __future__ import annotations

import gc
import json
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flowstore.errors import ConfigurationError, CorruptError, NotFoundError, StorageError, UnreachableError
from flowstore.record import Key, Query
from flowstore.storages import SqlStorage
from tests.storages.storage_contract import StorageContract
from tests.storages.storage_kit import Recipe, contents, file_size_limit, in_child, open_files, opened, record, wait_for
from tests.storages.storage_races import ProcessRaces, ThreadRaces


class TestSqlite(ProcessRaces, StorageContract):
    @pytest.fixture
    def recipe(self, tmp_path: Path) -> Recipe:
        return "SqlStorage", {"connection_string": f"sqlite:///{tmp_path}/records.db"}


class TestSqliteInMemory(ThreadRaces, StorageContract):
    child_sees_what_its_parent_stored = False

    @pytest.fixture
    def recipe(self) -> Recipe:
        return "SqlStorage", {"connection_string": "sqlite://"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "records.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqlStorage]:
    storage = sql(path)
    storage.connect()
    yield storage
    storage.disconnect()


def sql(path: Path, **configuration: Any) -> SqlStorage:
    return SqlStorage(f"sqlite:///{path}", **configuration)


def look(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


# Configuration


def test_nothing_is_loaded_or_opened_before_connect(tmp_path: Path) -> None:
    script = (
        "import sys, flowstore.storages as s; from flowstore.storages import SqlStorage\n"
        f"SqlStorage('sqlite:///{tmp_path}/x.db'); s.FileStorage('{tmp_path}/files'); s.MemoryStorage()\n"
        "print([name for name in ('sqlalchemy', 'sqlite3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("connection_string", "message"),
    [
        ("postgresql://user:hunter2@host/db", "'postgresql' is not supported.*supports SQLite"),
        ("sqlite+aiosqlite:///x.db", "not supported"),
        ("sqlitex:///x.db", "not supported"),
        ("results.db", "no scheme"),
        ("", "no scheme"),
        ("sqlite://results.db", "three slashes.*sqlite:///results.db"),
        ("sqlite:///results.db?timeout=5", "options after"),
    ],
)
def test_refuses_other_connection_strings(connection_string: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        SqlStorage(connection_string)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"encoding": "latin-1"}, {"synchronous": "OFF"}, {"timeout": -1}, {"timeout": float("nan")}]
)
def test_refuses_other_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SqlStorage("sqlite://", **arguments)


@pytest.mark.parametrize("encoding", [None, "utf-8", "UTF-8", "utf8"])
def test_takes_the_encoding_that_it_has(encoding: str | None) -> None:
    SqlStorage("sqlite://", encoding=encoding)


def test_a_relative_path_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = SqlStorage("sqlite:///records.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.connect()
    storage.disconnect()
    assert contents(tmp_path).keys() == {"records.db"}


@pytest.mark.parametrize("name", ["a b.db", "é🍎.db", "100%25.db", "#x.db", "a&mode=memory"])
def test_a_path_may_have_any_name(tmp_path: Path, name: str) -> None:
    storage = sql(tmp_path / name)
    storage.connect()
    storage.store("f", "t", "1", 1)
    storage.disconnect()
    assert contents(tmp_path).keys() == {name}


@pytest.mark.parametrize(("configuration", "level"), [({}, 2), ({"synchronous": "NORMAL"}, 1)])
def test_synchronizes_as_configured(path: Path, configuration: dict[str, Any], level: int) -> None:
    storage = sql(path, **configuration)
    storage.connect()

    def settings() -> list[Any]:
        database = storage._connected()
        return [database.execute(f"PRAGMA {name}")[0][0] for name in ("synchronous", "journal_mode")]

    with ThreadPoolExecutor(1) as pool:
        assert settings() == pool.submit(settings).result() == [level, "wal"]
    storage.disconnect()


def test_echo_shows_statements_without_values(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = sql(path, echo=True)
    with caplog.at_level(logging.INFO, logger="sqlalchemy.engine"):
        storage.connect()
        storage.store("f", "t", "1", "hunter2")
        storage.retrieve("f", "t", "1")
        storage.disconnect()
    assert "INSERT INTO flowstore_records" in caplog.text
    assert "hunter2" not in caplog.text


# What others see in the file


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
    ],
)
def test_selects_by_index(storage: SqlStorage, path: Path, query: Query, index: str) -> None:
    database = storage._connected()
    fields = tuple(name for name in ("flow_name", "task_name", "task_id", "run_id") if getattr(query, name))
    statement = database.sql.scan(len(query.kinds or ()), fields, query.descending, False, False)
    values = ["x"] * (len(query.kinds or ()) + len(fields))
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", [*values, 10])]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN flowstore_records") and "INDEX" not in step for step in plan), plan


# Connections


def test_threads_that_end_leave_no_connections(storage: SqlStorage, path: Path) -> None:
    def work(number: int) -> None:
        storage.store("f", "t", str(number), number)
        assert storage.retrieve("f", "t", str(number)) == number

    for number in range(50):
        thread = threading.Thread(target=work, args=(number,))
        thread.start()
        thread.join()
    gc.collect()
    databases = [name for name in open_files(path.parent) if name == str(path)]
    assert len(databases) == 2  # this thread's, and one that the others took in turns
    assert len(list(storage.records(Query()))) == 50


def test_disconnect_closes_the_connections_of_all_threads(path: Path) -> None:
    storage = sql(path)
    storage.connect()
    stored, go_on = threading.Barrier(4), threading.Event()
    problems: list[BaseException] = []

    def work(number: int) -> None:
        storage.store("f", "t", str(number), number)
        stored.wait(60)
        go_on.wait(60)
        try:
            assert storage.retrieve("f", "t", str(number)) == number
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    stored.wait(60)
    assert open_files(path.parent)
    storage.disconnect()
    assert open_files(path.parent) == []
    assert contents(path.parent).keys() == {"records.db"}
    storage.connect()
    go_on.set()
    for thread in threads:
        thread.join()
    storage.disconnect()
    assert problems == []
    assert open_files(path.parent) == []


def test_is_not_usable_while_disconnected(path: Path) -> None:
    storage = sql(path)
    with pytest.raises(StorageError, match="not connected"):
        storage.retrieve("f", "t", "1")
    assert not path.exists()


def test_a_call_that_meets_a_disconnect_says_so(storage: SqlStorage) -> None:
    database = storage._connected()
    storage.disconnect()
    with pytest.raises(Exception, match="closed") as caught:
        database.execute("SELECT 1")
    assert isinstance(storage._translate(caught.value), UnreachableError)
    with ThreadPoolExecutor(1) as pool, pytest.raises(UnreachableError, match="disconnected"):
        pool.submit(database.execute, "SELECT 1").result()


@pytest.mark.parametrize("place", ["file", "memory"])
def test_disconnect_lets_running_calls_finish(path: Path, place: str) -> None:
    storage = sql(path, synchronous="NORMAL") if place == "file" else SqlStorage("sqlite://")
    storage.connect()
    stop = threading.Event()
    lost: list[object] = []

    def work(worker: int) -> int:
        stored = 0
        while not stop.is_set():
            try:
                storage.store("f", str(worker), str(stored), "x" * 50_000)
                stored += 1
            except StorageError as exc:
                if "connected" not in str(exc):
                    lost.append(exc)
        return stored

    with ThreadPoolExecutor(4) as pool:
        stored = [pool.submit(work, worker) for worker in range(4)]
        for _ in range(100):
            storage.disconnect()
            storage.connect()
            for number in range(3):
                storage.store("f", "here", str(number), number)
        stop.set()
        counts = [one.result() for one in stored]
    assert lost == []
    if place == "file":
        for worker, count in enumerate(counts):
            assert len(list(storage.records(Query(task_name=str(worker)), payload=False))) == count
    storage.disconnect()


def test_a_child_leaves_inherited_connections_alone(storage: SqlStorage, path: Path) -> None:
    storage.store("f", "t", "1", 1)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")

        def work() -> None:
            assert storage.retrieve("f", "t", "1") == 1
            storage.disconnect()
            storage.disconnect()

        wait_for(in_child(work))
        # The child's goodbye has neither taken the lock away nor removed the files of the connections here.
        impatient = sql(path, timeout=0)
        impatient.connect()
        with pytest.raises(UnreachableError, match="locked"):
            impatient.store("f", "t", "1", 2)
        impatient.disconnect()
        other.execute("ROLLBACK")
    storage.store("f", "t", "1", 3)
    assert storage.retrieve("f", "t", "1") == 3


# Files that are damaged, or not ours


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
        (text, CorruptError, "no SQLite database"),
        (short, CorruptError, "no SQLite database"),
        (less_than_a_page, CorruptError, "no SQLite database"),
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
    for read in (lambda: storage.retrieve("f", "t", "1"), lambda: storage.scan(Query())):
        with pytest.raises(CorruptError):
            read()
    assert storage.retrieve("f", "t", "2") == 2


def test_a_row_under_a_wrong_address_is_not_handed_out(storage: SqlStorage, path: Path) -> None:
    storage.store("f", "t", "1", "secret of 1")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE flowstore_records SET task_id = '2'")
        connection.commit()
    with pytest.raises(CorruptError, match="answered with"):
        storage.retrieve("f", "t", "1")


# Trouble


def test_waits_for_another_writer_no_longer_than_told(path: Path) -> None:
    storage = sql(path, timeout=0)
    storage.connect()
    storage.store("f", "t", "1", "old")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnreachableError, match="locked"):
            storage.store("f", "t", "1", "new")
        assert storage.retrieve("f", "t", "1") == "old"
        other.execute("ROLLBACK")
    storage.store("f", "t", "1", "new")
    assert storage.retrieve("f", "t", "1") == "new"
    storage.disconnect()


def test_a_full_disk_loses_nothing(path: Path) -> None:
    def work() -> None:
        storage = sql(path)
        storage.connect()
        storage.store("f", "t", "1", "old")
        with file_size_limit(200_000):
            with pytest.raises(UnreachableError):
                storage.store("f", "t", "1", "x" * 1_000_000)
            with pytest.raises(UnreachableError):
                storage.store("f", "t", "2", "x" * 1_000_000)
            assert storage.retrieve("f", "t", "1") == "old"
        storage.store("f", "t", "2", "x" * 1_000_000)
        storage.disconnect()

    wait_for(in_child(work))
    with opened(("SqlStorage", {"connection_string": f"sqlite:///{path}"})) as storage:
        assert storage.retrieve("f", "t", "1") == "old"
        assert storage.retrieve("f", "t", "2") == "x" * 1_000_000


def test_a_database_that_was_removed_is_not_made_anew(storage: SqlStorage, path: Path) -> None:
    storage.store("f", "t", "1", 1)
    for name in contents(path.parent):
        (path.parent / name).unlink()
    with ThreadPoolExecutor(1) as pool, pytest.raises(UnreachableError, match="can't be opened"):
        pool.submit(storage.retrieve, "f", "t", "1").result()
    assert contents(path.parent) == {}


def test_memory_is_shared_by_threads_and_gone_after_disconnect() -> None:
    storage = SqlStorage("sqlite:///:memory:")
    storage.connect()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(storage.store, "f", "t", "1", 1).result()
    assert storage.retrieve("f", "t", "1") == 1
    storage.disconnect()
    storage.connect()
    with pytest.raises(NotFoundError):
        storage.retrieve("f", "t", "1")
    storage.disconnect()
