"""Writers that are killed at any point, stopped, or robbed of their folder."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from flowstore import FlowStore
from flowstore.errors import ConfigurationError, NotFoundError, UnreachableError
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storages import FileStorage
from flowstore.storages.shared.names import Location
from tests.storages.storage_kit import in_child, record, returns, wait_for

KEY = Key("f", "t", "1")
OTHER = Key("f", "t", "2")
NEW = Key("f", "t", "new")
KILLED: Final = 9

# All that changes something on the disk.
CHANGING: Final = ("open", "mkdir", "write", "writev", "fsync", "replace", "rename", "unlink", "rmdir")

WRITERS: dict[str, Callable[[FileStorage], object]] = {
    "new": lambda storage: storage.put(record(NEW, "new", run_id="r")),
    "new in a new run": lambda storage: storage.put(record(NEW, "new", run_id="new")),
    "again": lambda storage: storage.put(record(KEY, "again", run_id="r")),
    "into another run": lambda storage: storage.put(record(KEY, "again", run_id="s")),
    "into no run": lambda storage: storage.put(record(KEY, "again")),
    "delete": lambda storage: storage.delete(KEY),
    "delete the run": lambda storage: storage.delete_many([Ref(RESULT, KEY), Ref(RESULT, OTHER)]),
    "blob": lambda storage: storage.store_blob(NEW, "b", io.BytesIO(b"x"), facts={"run_id": "r"}),
    "purge": lambda storage: storage.purge(),
}


def opened(root: Path, **more: Any) -> FileStorage:
    storage = FileStorage(str(root), **more)
    storage.connect()
    return storage


def die_at(number: int) -> None:
    """End this process as a kill does, before or after a change of the disk."""
    points = 0

    def point() -> None:
        nonlocal points
        points += 1
        if points == number:
            os._exit(KILLED)

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            point()
            done = call(*args, **kwargs)
            point()
            return done

        return changed

    for name in CHANGING:
        setattr(os, name, killing(getattr(os, name)))


@pytest.mark.parametrize("durable", [True, pytest.param(False, marks=pytest.mark.release)])
@pytest.mark.parametrize("writer", WRITERS)
def test_killed_at_any_point_runs_and_records_agree(tmp_path: Path, writer: str, durable: bool) -> None:
    points = 0
    while True:
        root = tmp_path / str(points)
        storage = opened(root, durable=durable)
        storage.put_many([record(KEY, "old", run_id="r"), record(OTHER, "other", run_id="r")])
        points += 1

        def work(number: int = points, storage: FileStorage = storage) -> None:
            die_at(number)
            WRITERS[writer](storage)

        _, status = os.waitpid(in_child(work), 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, KILLED)
        check_agreement(storage, root)
        if code == 0:
            break
    print(f"{writer}: killed at {points - 1} points")
    assert points > 5


def check_agreement(storage: FileStorage, root: Path) -> None:
    everything = list(storage.records(Query()))
    for run_id in ("r", "s", "new"):
        of_run = {one.ref for one in everything if one.run_id == run_id}
        assert {one.ref for one in storage.records(Query(run_id=run_id))} == of_run
        assert storage.count(Query(run_id=run_id)) == len(of_run)
    for one in everything:
        if one.kind == RESULT:
            assert storage.retrieve("f", "t", one.key.task_id) in ("old", "other", "new", "again")
    storage.cleanup()
    pointers = {path.name for path in (root / "runs").rglob("*.*")}
    assert pointers <= {f"{path.parent.parent.name}.{path.name}" for path in (root / "records").rglob("*-*")}
    storage.delete_many([one.ref for one in storage.records(Query(run_id="r"))])
    assert [one for one in storage.records(Query()) if one.run_id == "r"] == []
    storage.put(record(KEY, "old", run_id="r"))
    assert [one.key for one in storage.records(Query(run_id="r"))] == [KEY]


# Writers that are stopped


def test_a_stopped_writer_keeps_nobody_for_ever(tmp_path: Path) -> None:
    storage = opened(tmp_path / "s", timeout=0.3)
    storage.put(record(KEY, "old"))
    locked, lock = os.pipe()

    def hold() -> None:
        with storage._folder.lock(Location.of(Ref(RESULT, KEY))):
            os.write(lock, b"x")
            time.sleep(600)

    child = in_child(hold)
    os.read(locked, 1)
    os.kill(child, signal.SIGSTOP)
    try:
        for call in (
            lambda: storage.put(record(KEY, "new")),
            lambda: storage.delete(KEY),
            lambda: storage.put_many([record(KEY, "new")]),
        ):
            error = returns(call)
            assert type(error) is UnreachableError
            assert re.search(r"held its lock for 0\.3 s.*SIGSTOP", str(error))
        assert storage.retrieve("f", "t", "1") == "old"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for descriptor in (locked, lock):
            os.close(descriptor)
    storage.put(record(KEY, "new"))


def test_the_time_to_wait_is_some() -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        FileStorage("x", timeout=0)
    entry = {"name": "S", "classname": "FileStorage", "configuration": {"path": "x", "timeout": -1}}
    with pytest.raises(ConfigurationError, match=r"configuration\.timeout: must be"):
        FlowStore({"storages": [entry], "global": {"default_storage": "S"}})


# The folder itself


def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to("disk")
    storage = opened(tmp_path / "results")
    storage.put(record(KEY, "x", run_id="r"))
    storage.store_blob(KEY, "b", io.BytesIO(b"x" * 100))
    assert [one.key for one in storage.records(Query(run_id="r"))] == [KEY]
    assert opened(tmp_path / "disk").retrieve("f", "t", "1") == "x"
    assert storage.purge() == 2


def test_a_folder_where_anybody_may_write_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, mode in (("open", 0o777), ("shared", 0o770)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        opened(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
    [warning] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert "is writable by all users" in warning
    assert f"{tmp_path}/open" in warning


def emptied(root: Path) -> None:
    root.rename(root.with_name("moved"))
    root.mkdir()


def deleted(root: Path) -> None:
    root.rename(root.with_name("moved"))


CALLS: list[Callable[[FlowStore], object]] = [
    lambda store: store.retrieve("f", "t", "1"),
    lambda store: store.retrieve("f", "t", "1", default=None),
    lambda store: list(store._run_reader.records("r")),
    lambda store: store.store("f", "t", "1", 2),
    lambda store: store.delete("f", "t", "1"),
    lambda store: store.cleanup(),
]


@pytest.mark.parametrize("happens", [deleted, emptied])
def test_a_folder_that_is_gone_is_no_empty_one(tmp_path: Path, happens: Callable[[Path], None]) -> None:
    root = tmp_path / "s"
    entry = {"name": "S", "classname": "FileStorage", "on_store_error": "fail", "configuration": {"path": str(root)}}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
    store.store("f", "t", "1", 1)
    happens(root)
    for _ in range(2):
        for call in CALLS:
            with pytest.raises(UnreachableError, match="can't use"):
                call(store)
    if root.exists():
        root.rmdir()
    root.with_name("moved").rename(root)
    assert store.retrieve("f", "t", "1") == 1
    store.close()


def test_a_folder_that_was_replaced_is_used_after_one_error(tmp_path: Path) -> None:
    root, other = tmp_path / "s", tmp_path / "other"
    entry = {"name": "S", "classname": "FileStorage", "on_store_error": "fail", "configuration": {"path": str(root)}}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
    store.store("f", "t", "1", 1)
    opened(other)
    root.rename(root.with_name("moved"))
    other.rename(root)
    with pytest.raises(UnreachableError, match="deleted or replaced"):
        store.retrieve("f", "t", "1")
    with pytest.raises(NotFoundError):
        store.retrieve("f", "t", "1")
    store.store("f", "t", "1", 2)
    assert opened(root).retrieve("f", "t", "1") == 2
    store.close()


def test_a_shard_that_was_replaced_while_a_writer_waited_gets_the_record(tmp_path: Path) -> None:
    root = tmp_path / "s"
    storage = opened(root)
    storage.put(record(KEY, "old"))
    shard = next((root / "records" / "result").iterdir())
    ready, go = os.pipe()

    def work() -> None:
        os.write(go, b"x")
        storage.put(record(KEY, "new"))

    with storage._folder.lock(Location.of(Ref(RESULT, KEY))):
        child = in_child(work)
        os.read(ready, 1)
        time.sleep(0.2)  # the longer, the surer that it waits; it has to be right in any case
        shard.rename(tmp_path / "old shard")
        shard.mkdir(0o700)
    wait_for(child)
    for descriptor in (ready, go):
        os.close(descriptor)
    assert storage.retrieve("f", "t", "1") == "new"
