from __future__ import annotations

import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flowstore.errors import CorruptError, StorageError, UnreachableError
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storages import FileStorage
from flowstore.testing import HOSTILE, StorageTests
from tests.storages.bystanders import Bystander, beside
from tests.storages.storage_kit import contents, file_size_limit, in_child, open_files, record, wait_for
from tests.storages.storage_races import ProcessRaces
from tests.storages.wrecks import Wrecked

KEY = Key("f", "t", "1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "records"


class TestFileStorage(Wrecked, ProcessRaces, StorageTests):
    storage_class = FileStorage
    lacks: ClassVar = {"faults": "there is no server; what a folder can do is tested below"}

    @pytest.fixture
    def configuration(self, root: Path) -> dict[str, Any]:
        return {"path": str(root)}

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Bystander:
        return beside(("FileStorage", configuration))

    @pytest.fixture
    def raw_get(self, root: Path) -> Callable[[Ref], bytes | None]:
        def look(ref: Ref) -> bytes | None:
            found = list((root / "records").rglob(f"*-{ref.address.hex()}"))
            return found[0].read_bytes().partition(b"\n")[2] if found else None

        return look


@pytest.mark.each_time("lifecycle", "revisions", "blobs", "processes")
class TestFileStorageThatDoesNotWait(TestFileStorage):
    @pytest.fixture
    def configuration(self, root: Path) -> dict[str, Any]:
        return {"path": str(root), "durable": False}


@pytest.fixture
def storage(root: Path) -> Iterator[FileStorage]:
    storage = FileStorage(str(root))
    storage.connect()
    yield storage
    storage.disconnect()


def files_of(root: Path, below: str = "records") -> list[Path]:
    return [path for path in sorted((root / below).rglob("*")) if not path.is_dir()]


# What is on the disk


def test_a_file_is_a_line_about_the_record_and_the_payload(storage: FileStorage, root: Path) -> None:
    stored = storage.put(record(KEY, {"a": "é"}, run_id="r"))
    [path] = files_of(root)
    line, _, payload = path.read_bytes().partition(b"\n")
    about = json.loads(line)
    assert (about["kind"], about["flow_name"], about["task_name"], about["task_id"]) == (RESULT, "f", "t", "1")
    assert (about["revision"], about["headers"]["run_id"]) == (stored.revision, "r")
    assert json.loads(payload) == {"a": "é"}


def test_no_part_of_a_key_is_in_a_path(storage: FileStorage, root: Path, tmp_path: Path) -> None:
    for part in HOSTILE:
        storage.put(record(Key(part, part, part), 1, name=part, run_id=part))
        storage.put(record(KEY, 1, kind=f"Kind {part}"))
    assert set(os.listdir(tmp_path)) == {"records"}
    records = [path.relative_to(root).parts for path in files_of(root)]
    pointers = [path.relative_to(root).parts for path in files_of(root, "runs")]
    assert (len(records), len(pointers)) == (2 * len(HOSTILE), len(HOSTILE))
    hashes = "[0-9a-f]{2}/[0-9a-f]{16}-[0-9a-f]{64}"
    for path in records:
        assert re.fullmatch(rf"records/(result|0[0-9a-f]{{64}})/{hashes}", "/".join(path))
    for path in pointers:
        assert re.fullmatch(r"runs/[0-9a-f]{64}/result\.[0-9a-f]{16}-[0-9a-f]{64}", "/".join(path))


def test_only_its_owner_may_read(storage: FileStorage, root: Path) -> None:
    storage.put(record(KEY, 1, run_id="r"))
    for path in (root, *root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_leaves_nothing_behind(storage: FileStorage, root: Path) -> None:
    for _ in range(3):
        storage.put(record(KEY, 1, run_id="r"))
    storage.delete(KEY)
    assert contents(root).keys() == {"flowstore.json"}
    assert list((root / "runs").iterdir()) == []
    assert open_files(root) == []


def test_reads_no_more_than_it_has_to(storage: FileStorage, root: Path) -> None:
    storage.put(record(KEY, "mine", run_id="r"))
    storage.put(record(Key("f", "t", "2"), "another run's", run_id="other"))
    storage.put(record(KEY, "another kind", kind="error"))
    for path in files_of(root):
        if b"another" in path.read_bytes():
            path.write_bytes(b"damaged")
    assert [one.key for one in storage.records(Query(run_id="r"))] == [KEY]
    assert [one.key for one in storage.records(Query(kinds=("run",)))] == []
    everything_of_the_key = Query(kinds=(RESULT,), flow_name="f", task_name="t", task_id="1")
    assert [one.key for one in storage.records(everything_of_the_key)] == [KEY]
    of_two_keys = Query(kinds=(RESULT,), flow_name="f", task_name="t", task_ids=("1", "3"))
    assert [one.key for one in storage.records(of_two_keys)] == [KEY]
    assert storage.count(of_two_keys) == 1


def test_reads_headers_without_the_payload(storage: FileStorage, root: Path) -> None:
    storage.put(record(KEY, "x" * 1_000_000))
    [path] = files_of(root)
    size = path.stat().st_size
    # A file of the same size whose payload would take forever to read: there are no bytes behind it.
    end = path.read_bytes().index(b"\n") + 1
    os.truncate(path, end)
    os.truncate(path, size)
    assert storage.get(KEY, payload=False).payload == b""
    assert [one.key for one in storage.records(Query(), payload=False)] == [KEY]
    with pytest.raises(CorruptError):
        storage.retrieve("f", "t", "1")


# Damage


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_the_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def cut_in_the_payload(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def foreign(path: Path) -> None:
    path.write_bytes(b'{"hello": "world"}\n')


def a_list(path: Path) -> None:
    path.write_bytes(b"[]\n")


def newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2', 1))


def another_record(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"task_id":"1"', b'"task_id":"2"'))


def a_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [empty, cut_in_the_line, cut_in_the_payload, longer, foreign, a_list, newer, another_record, a_link, a_pipe]


@pytest.mark.parametrize("damage", [*DAMAGES, a_folder])
def test_names_the_file_that_it_can_not_read(storage: FileStorage, root: Path, damage: Callable[[Path], None]) -> None:
    storage.put(record(KEY, "x" * 100, run_id="r"))
    [path] = files_of(root)
    damage(path)
    calls: list[Callable[[], Any]] = [
        lambda: storage.get(KEY),
        lambda: storage.get_many([Ref(RESULT, KEY)]),
        lambda: storage.put(record(KEY, "new")),
        lambda: storage.delete(KEY, if_revision=1),
    ]
    for call in calls:
        with pytest.raises(CorruptError, match=path.name):
            call()
    page = storage.scan(Query(run_id="r"))
    assert (page.records, [path.name in str(one.error) for one in page.damaged]) == ([], [True])
    assert os.path.lexists(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_can_be_deleted(storage: FileStorage, root: Path, damage: Callable[[Path], None]) -> None:
    storage.put(record(KEY, "x" * 100, run_id="r"))
    [path] = files_of(root)
    damage(path)
    assert storage.delete(KEY)
    assert storage.scan(Query(run_id="r")).records == []
    storage.put(record(KEY, "new", run_id="r"))
    assert storage.retrieve("f", "t", "1") == "new"


def test_strange_files_stop_nothing_and_are_told_once(
    storage: FileStorage, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage.put(record(KEY, 1, run_id="r"))
    storage.store_blob(Key("f", "t", "2"), "b", io.BytesIO(b"x"), facts={"run_id": "r"})
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    strays = [folder / name for folder in folders for name in ("Thumbs.db", "desktop.ini", "aa", ".DS_Store")]
    for path in strays:
        path.write_text("x")
        os.utime(path, (0, 0))
    (root / "tmp" / "a_folder").mkdir()
    os.utime(root / "tmp" / "a_folder", (0, 0))
    FileStorage(str(root)).connect()
    for _ in range(2):
        assert {one.key for one in storage.records(Query())} == {KEY, Key("f", "t", "2")}
        assert storage.count(Query(run_id="r")) == 2
    assert storage.cleanup() == storage.remove_orphans() == 0
    told = [one.getMessage() for one in caplog.records]
    assert len(told) == len(set(told))
    assert any(f"ignoring {root}/records/Thumbs.db" in one for one in told)
    assert storage.purge() == 2
    assert all(path.exists() for path in strays if path.parent != root / "tmp")


# Folders that are not ours


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"letter.txt": b"x"}, StorageError, "not empty and not .*flowstore.*letter"),
        ({"records/result/x": b"x"}, StorageError, "not empty"),
        ({"flowstore.json": b"{"}, CorruptError, "damaged"),
        ({"flowstore.json": b"[]"}, CorruptError, "format None"),
        ({"flowstore.json": b'{"format": 2}'}, CorruptError, "format 2"),
    ],
)
def test_leaves_a_folder_that_is_not_its_own(
    root: Path, files: dict[str, bytes], error: type[StorageError], message: str
) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    before = sorted(root.rglob("*")), contents(root)
    storage = FileStorage(str(root))
    with pytest.raises(error, match=message) as caught:
        storage.connect()
    assert type(caught.value) is error
    assert str(root) in str(caught.value)
    assert not storage.is_connected()
    assert (sorted(root.rglob("*")), contents(root)) == before


def test_takes_an_empty_folder(root: Path) -> None:
    root.mkdir()
    storage = FileStorage(str(root))
    storage.connect()
    storage.store("f", "t", "1", 1)


def test_needs_a_folder_to_be_in(root: Path) -> None:
    storage = FileStorage(str(root / "deeper"))
    with pytest.raises(UnreachableError, match=f"{root} does not exist"):
        storage.connect()
    assert not root.exists()


def test_needs_a_folder(root: Path) -> None:
    root.write_text("x")
    with pytest.raises(UnreachableError, match=f"{root}.*[Nn]ot a directory"):
        FileStorage(str(root)).connect()
    assert root.read_text() == "x"


def test_a_folder_that_was_removed_is_not_made_anew(storage: FileStorage, root: Path) -> None:
    root.rename(root.with_name("moved"))
    with pytest.raises(UnreachableError, match="can't use"):
        storage.store("f", "t", "1", 1)
    assert not root.exists()


# Trouble


def test_a_full_disk_loses_nothing(storage: FileStorage, root: Path) -> None:
    storage.put(record(KEY, "old", run_id="r"))
    before = contents(root)

    def work() -> None:
        with file_size_limit(100_000):
            for task_id in ("1", "2"):
                with pytest.raises(UnreachableError, match="can't use"):
                    storage.put(record(Key("f", "t", task_id), "x" * 1_000_000, run_id="r"))

    wait_for(in_child(work))
    assert contents(root) == before
    storage.put(record(KEY, "x" * 1_000_000, run_id="r"))
    assert storage.retrieve("f", "t", "1") == "x" * 1_000_000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_says_that_it_may_not_write(storage: FileStorage, root: Path) -> None:
    (root / "tmp").chmod(0o500)
    try:
        with pytest.raises(UnreachableError, match="Permission denied"):
            storage.store("f", "t", "1", 1)
    finally:
        (root / "tmp").chmod(0o700)


def test_sweeps_what_dead_writers_left(storage: FileStorage, root: Path) -> None:
    old, new = root / "tmp" / "1-old", root / "tmp" / "1-new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    FileStorage(str(root)).connect()
    assert [path.name for path in (root / "tmp").iterdir()] == ["1-new"]


def test_a_writer_that_died_between_a_record_and_its_run_can_be_repeated(storage: FileStorage, root: Path) -> None:
    one = record(KEY, 1, run_id="r")
    storage.put(one)
    [pointer] = files_of(root, "runs")
    pointer.unlink()
    storage.put(one)
    assert [found.key for found in storage.records(Query(run_id="r"))] == [KEY]
    [path] = files_of(root)
    path.unlink()
    assert storage.scan(Query(run_id="r")).records == []
