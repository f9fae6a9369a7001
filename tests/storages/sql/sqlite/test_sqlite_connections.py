from __future__ import annotations

import gc
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from flowstore.errors import NotFoundError, StorageError, UnreachableError
from flowstore.record import Query
from flowstore.storages import SqlStorage
from tests.storages.sql.sqlite.sqlite_kit import sql
from tests.storages.storage_kit import (
    contents,
    file_size_limit,
    in_child,
    open_files,
    opened,
    store_while_reconnecting,
    used_by_threads,
    wait_for,
)


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
    with used_by_threads(storage):
        assert open_files(path.parent)
        storage.disconnect()
        assert open_files(path.parent) == []
        assert contents(path.parent).keys() == {"records.db"}
        storage.connect()
    storage.disconnect()
    assert open_files(path.parent) == []


def test_is_not_usable_while_disconnected(path: Path) -> None:
    storage = sql(path)
    with pytest.raises(StorageError, match="not connected"):
        storage.retrieve("f", "t", "1")
    assert not path.exists()


def test_a_call_that_meets_a_disconnect_says_so(storage: SqlStorage) -> None:
    database = storage._connection()
    storage.disconnect()
    with pytest.raises(UnreachableError, match="disconnected"):
        database.rows("SELECT 1")
    with ThreadPoolExecutor(1) as pool, pytest.raises(UnreachableError, match="disconnected"):
        pool.submit(database.rows, "SELECT 1").result()


@pytest.mark.parametrize("place", ["file", "memory"])
def test_disconnect_lets_running_calls_finish(path: Path, place: str) -> None:
    storage = sql(path, synchronous="NORMAL") if place == "file" else SqlStorage("sqlite://")
    storage.connect()
    counts, lost = store_while_reconnecting(storage, times=100, stores=3)
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
