"""SQLite: the database's files are deleted, replaced or not for everybody while processes use them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from flowstore import FlowStore
from flowstore.errors import StorageError, UnreachableError
from flowstore.record import Key, Ref
from flowstore.storages import SqlStorage
from tests.storages.sql.sqlite.sqlite_kit import look, sql
from tests.storages.storage_kit import contents, in_child, record, wait_for


def deleted(path: Path) -> None:
    for name in contents(path.parent):
        (path.parent / name).unlink()


def deleted_and_made_anew(path: Path) -> None:
    deleted(path)
    anew = sql(path)
    anew.connect()
    anew.disconnect()


def replaced_by_a_backup(path: Path) -> None:
    backup = path.with_name("backup.db")
    look(path, f"VACUUM INTO '{backup}'")
    backup.rename(path)
    for name in ("-wal", "-shm"):
        Path(f"{path}{name}").unlink(missing_ok=True)


def replaced_alone(path: Path) -> None:
    backup = path.with_name("backup.db")
    look(path, f"VACUUM INTO '{backup}'")
    backup.rename(path)


def log_deleted(path: Path) -> None:
    Path(f"{path}-wal").unlink()


WAYS = [deleted, deleted_and_made_anew, replaced_by_a_backup, replaced_alone, log_deleted]
WRITES: list[Callable[[SqlStorage], object]] = [
    lambda storage: storage.store("f", "t", "after", 1),
    lambda storage: storage.put(record(Key("f", "t", "after"), 1), if_revision=0),
    lambda storage: storage.put_many([record(Key("f", "t", "after"), 1)]),
    lambda storage: storage.add_many([record(Key("f", "t", "after"), 1)]),
    lambda storage: storage.delete(Key("f", "t", "before")),
    lambda storage: storage.delete_many([Ref("result", Key("f", "t", "before"))]),
]


@pytest.mark.parametrize("write", WRITES, ids=["store", "insert", "put_many", "add_many", "delete", "delete_many"])
@pytest.mark.parametrize("way", WAYS)
def test_a_write_into_other_files_is_not_acknowledged(
    storage: SqlStorage, path: Path, way: Callable[[Path], None], write: Callable[[SqlStorage], object]
) -> None:
    storage.store("f", "t", "before", 0)
    way(path)
    with pytest.raises(StorageError, match=r"was deleted|was replaced|deleted or replaced"):
        write(storage)


@pytest.mark.parametrize("way", [deleted, deleted_and_made_anew, replaced_by_a_backup, replaced_alone])
def test_what_is_read_is_never_that_of_a_former_file(
    storage: SqlStorage, path: Path, way: Callable[[Path], None]
) -> None:
    storage.store("f", "t", "before", 0)
    way(path)
    with pytest.raises(StorageError, match=r"was deleted|was replaced"):
        storage.retrieve("f", "t", "before")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", ["before", "while"])
def test_what_is_acknowledged_can_be_read_by_a_new_process(
    storage: SqlStorage, path: Path, way: Callable[[Path], None], moment: str
) -> None:
    """Also when the files go in the middle of a write, between its beginning and its end."""
    database = storage._connection()
    lost = False
    storage.store("f", "t", "before", 0)
    held = database._borrow()[0]
    assert held is not None
    run = held.run

    def run_and_lose(*arguments: object) -> object:
        nonlocal lost
        outcome = run(*arguments)  # type: ignore[arg-type]
        if not lost:
            lost = True
            way(path)
        return outcome

    if moment == "while":
        held.run = run_and_lose  # type: ignore[method-assign,assignment]
    else:
        way(path)
    acknowledged = []
    for number in range(10):
        try:
            storage.store("f", "t", str(number), number)
            acknowledged.append(number)
        except StorageError:
            pass
    assert 0 not in acknowledged
    if acknowledged:

        def read() -> None:
            other = sql(path)
            other.connect()
            for number in acknowledged:
                assert other.retrieve("f", "t", str(number)) == number

        wait_for(in_child(read))
    assert bool(acknowledged) == (way is not deleted)


def test_a_replaced_file_is_refused_once_and_not_retried(path: Path) -> None:
    entry = {"name": "S", "classname": "SqlStorage", "configuration": {"connection_string": f"sqlite:///{path}"}}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
    store.store("f", "t", "before", 0)
    replaced_by_a_backup(path)
    with pytest.raises(StorageError, match=r"was replaced while it was in use") as caught:
        store.store("f", "t", "after", 1)
    assert not isinstance(caught.value, UnreachableError)
    store.store("f", "t", "after", 1)
    assert store.retrieve("f", "t", "before") == 0
    # As at the beginning: readers and writers don't wait for each other.
    assert look(path, "PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_a_file_of_another_program_in_its_place_is_left_alone(storage: SqlStorage, path: Path) -> None:
    storage.store("f", "t", "1", 1)
    deleted(path)
    look(path, "CREATE TABLE users (name)")
    before = contents(path.parent)
    with pytest.raises(StorageError, match=r"was replaced"):
        storage.store("f", "t", "1", 2)
    for _ in range(2):
        with pytest.raises(StorageError, match="another program"):
            storage.store("f", "t", "1", 2)
    assert contents(path.parent) == before


# Modes


def modes(path: Path) -> dict[str, int]:
    return {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_new_database_is_its_owners_alone(path: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        storage = sql(path)
        storage.connect()
        storage.store("f", "t", "1", 1)
        assert modes(path) == dict.fromkeys(("records.db", "records.db-wal", "records.db-shm"), 0o600)
        storage.disconnect()
    finally:
        os.umask(former)


def test_the_mode_of_an_existing_file_stays(path: Path) -> None:
    path.touch(0o660)
    path.chmod(0o660)
    storage = sql(path)
    storage.connect()
    storage.store("f", "t", "1", 1)
    assert modes(path) == dict.fromkeys(("records.db", "records.db-wal", "records.db-shm"), 0o660)
    storage.disconnect()


# Where nothing can be written


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that can be reached by everybody."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_folder_in_which_nobody_may_write_is_named(shared_folder: Path, which: str) -> None:
    path = shared_folder / "records.db"
    storage = sql(path)
    storage.connect()
    storage.store("f", "t", "1", 1)
    storage.disconnect()
    os.chmod(path, 0o444 if which == "file" else 0o666)
    os.chmod(shared_folder, 0o555)

    def work() -> None:
        if not os.getuid():
            os.setuid(65534)  # root may write anywhere
        with pytest.raises(UnreachableError, match="SQLite writes beside the file even to read it"):
            sql(path).connect()

    try:
        wait_for(in_child(work))
    finally:
        os.chmod(shared_folder, 0o755)
