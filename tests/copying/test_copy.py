"""Copies between storages: whole, once, and completed after being killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowstore.copying import CopyResult, Problem, copy, verify
from flowstore.errors import UnreachableError
from flowstore.record import BLOB, ERROR, RESULT, VARIABLE, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.storages import FileStorage, MemoryStorage, SqlStorage
from flowstore.testing import HOSTILE, record

KEY = Key("flow", "task", "1")


@pytest.fixture
def source() -> Iterator[RecordStorage]:
    storage = MemoryStorage()
    storage.connect()
    yield storage
    storage.disconnect()


@pytest.fixture(params=["files", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RecordStorage]:
    storage: RecordStorage = (
        FileStorage(str(tmp_path / "target"), durable=False)
        if request.param == "files"
        else SqlStorage(f"sqlite:///{tmp_path}/target.db", synchronous="NORMAL")
    )
    storage.connect()
    yield storage
    storage.disconnect()


def fill(storage: RecordStorage, count: int = 250) -> None:
    """Store records of several kinds, with hostile keys, many revisions, large payloads and blobs."""
    for number in range(count):
        storage.put(record(Key("flow", "task", str(number)), number, run_id=f"r{number % 3}"))
    for part in HOSTILE:
        storage.put(record(Key(part, part, part), part, ERROR, part))
    for number in range(7):
        storage.put(record(KEY, number, VARIABLE, "counter"))
    storage.put(record(Key("flow", "task", "large"), "x" * (5 << 20)))
    storage.put(record(Key("flow", "task", "bytes"), os.urandom(1000)))
    storage.store_blob(KEY, "large", os.urandom(3 << 20), facts={"run_id": "r1"})
    storage.store_blob(KEY, "empty", b"")


def everything(storage: RecordStorage) -> dict[Ref, Any]:
    """Return what is stored, by reference."""
    found: dict[Ref, Any] = {}
    for one in storage.records(Query()):
        headers = {name: value for name, value in one.headers.items() if name != "content"}
        payload, revision = one.payload, one.revision
        if BLOB in headers:
            with storage.retrieve_blob(one.key, one.ref.name) as file:
                payload = file.read()
        found[one.ref] = (revision, headers, payload)
    return {ref: found[ref] for ref in found if ref.kind != "piece"}


def test_everything_arrives_with_headers_tokens_and_revisions(source: RecordStorage, target: RecordStorage) -> None:
    fill(source)
    seen: list[int] = []
    problems: list[Problem] = []
    result = copy(source, target, progress=lambda so_far: seen.append(so_far.seen), report=problems.append)
    assert everything(target) == everything(source)
    assert target.get(KEY, VARIABLE, "counter").revision == source.get(KEY, VARIABLE, "counter").revision
    assert result == CopyResult(copied=len(everything(source)))
    assert seen == sorted(seen)
    assert seen[-1] == result.copied
    assert problems == []
    order = [one.ref for one in source.records(Query(kinds=(RESULT,)), payload=False)]
    assert [one.ref for one in target.records(Query(kinds=(RESULT,)), payload=False)] == order


def test_a_second_copy_changes_nothing(source: RecordStorage, target: RecordStorage) -> None:
    fill(source)
    first = copy(source, target)
    before = everything(target)
    assert copy(source, target) == CopyResult(skipped=first.copied)
    assert everything(target) == before


def test_only_what_is_asked_for(source: RecordStorage, target: RecordStorage) -> None:
    fill(source)
    query = Query(run_id="r1")
    copy(source, target, query)
    assert set(everything(target)) == {one.ref for one in source.records(query, payload=False)}
    assert target.has_blob(KEY, "large")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("keep", ["here", "here"]), ("replace", ["there", "there"]), ("newer", ["there", "here"])],
)
def test_conflicts_are_counted_and_decided(
    source: RecordStorage, target: RecordStorage, policy: Any, expected: list[str]
) -> None:
    keys = [Key("flow", "task", "older here"), Key("flow", "task", "newer here")]
    before = []
    for key, here, there in zip(keys, (100.0, 300.0), (200.0, 200.0), strict=True):
        source.put(record(key, "there", stored_at=there))
        before.append(target.put(record(key, "here", stored_at=here)).revision)
    problems: list[Problem] = []
    result = copy(source, target, on_conflict=policy, report=problems.append)
    assert [target.retrieve("flow", "task", key.task_id) for key in keys] == expected
    assert (result.conflicts, result.copied, result.skipped) == (2, expected.count("there"), expected.count("here"))
    assert {problem.ref and problem.ref.key for problem in problems} == set(keys)
    written = [target.get(key).revision - revision for key, revision in zip(keys, before, strict=True)]
    assert written == [value == "there" for value in expected]


def test_a_damaged_record_is_reported_and_the_rest_arrives(tmp_path: Path, target: RecordStorage) -> None:
    source = FileStorage(str(tmp_path / "source"), durable=False)
    source.connect()
    for number in range(5):
        source.put(record(Key("flow", "task", str(number)), f"value {number}"))
    for path in (tmp_path / "source" / "records").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(b"value 3", b"value 4"))
    problems: list[Problem] = []
    result = copy(source, target, report=problems.append)
    assert (result.copied, result.failed) == (4, 1)
    assert {problem.ref and problem.ref.key.task_id for problem in problems} == {"3"}
    assert target.count(Query()) == 4
    source.disconnect()


def test_verify_tells_all_differences(source: RecordStorage, target: RecordStorage) -> None:
    fill(source, 20)
    copy(source, target)
    assert verify(source, target).is_same
    target.delete(Key("flow", "task", "3"))
    target.put(record(Key("flow", "task", "4"), "other"))
    target.put(record(Key("flow", "task", "more"), "extra"))
    target.store_blob(KEY, "empty", b"not empty")
    problems: list[Problem] = []
    result = verify(source, target, report=problems.append)
    assert (result.missing, result.different, result.extra, result.corrupt) == (1, 2, 1, 0)
    assert not result.is_same
    assert len(problems) == 4
    assert result.same == len(everything(source)) - 3


def test_verify_finds_changed_bytes(tmp_path: Path, source: RecordStorage) -> None:
    target = FileStorage(str(tmp_path / "target"), durable=False)
    target.connect()
    source.put(record(KEY, "value 3"))
    source.store_blob(KEY, "b", b"b" * 100_000)
    copy(source, target)
    for path in (tmp_path / "target").rglob("*"):
        if path.is_file() and (b"value 3" in (data := path.read_bytes()) or data.endswith(b"b" * 1000)):
            path.write_bytes(data.replace(b"value 3", b"value 4").replace(b"b" * 100_000, b"b" * 99_999 + b"c"))
    result = verify(source, target)
    assert (result.same, result.corrupt) == (0, 2)
    target.disconnect()


KILLED = """
import sys
from flowstore.copying import copy
from flowstore.storages import FileStorage, SqlStorage
source, target = SqlStorage(sys.argv[1], synchronous="NORMAL"), FileStorage(sys.argv[2], durable=False)
source.connect(); target.connect()
def show(so_far):
    print(so_far.seen, flush=True)
    sys.stdin.readline()
print(copy(source, target, resume=sys.argv[3] or None, progress=show))
"""


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "tokens"])
def test_a_copy_that_is_killed_is_completed_by_the_next_one(tmp_path: Path, journal: bool) -> None:
    source = SqlStorage(f"sqlite:///{tmp_path}/source.db", synchronous="NORMAL")
    source.connect()
    fill(source, 900)
    path = str(tmp_path / "journal") if journal else ""
    arguments = [sys.executable, "-c", KILLED, f"sqlite:///{tmp_path}/source.db", str(tmp_path / "target"), path]
    for batches in (1, 3, 2):
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(batches):
            process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()
    target = FileStorage(str(tmp_path / "target"), durable=False)
    target.connect()
    arrived = len(everything(target))
    assert 0 < arrived < len(everything(source))
    assert (tmp_path / "journal").exists() == journal
    result = copy(source, target, resume=path or None)
    assert result.failed == result.conflicts == 0
    assert result.seen == len(everything(source))
    assert everything(target) == everything(source)
    assert verify(source, target).is_same
    assert not (tmp_path / "journal").exists()
    source.disconnect()
    target.disconnect()


def test_a_journal_saves_reading_again(tmp_path: Path, source: RecordStorage, target: RecordStorage) -> None:
    fill(source, 900)

    def stop(so_far: CopyResult) -> None:
        if so_far.seen > 500:
            raise KeyboardInterrupt

    path = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        copy(source, target, resume=path, progress=stop)
    kept = json.loads(path.read_text(encoding="utf-8"))["result"]["copied"]
    assert kept >= 400
    seen: list[int] = []
    copy(source, target, resume=path, progress=lambda so_far: seen.append(so_far.seen))
    assert min(seen) > kept
    assert everything(target) == everything(source)


def test_a_journal_of_another_copy_is_refused(tmp_path: Path, source: RecordStorage, target: RecordStorage) -> None:
    fill(source, 300)

    def stop(so_far: CopyResult) -> None:
        if so_far.seen > 250:
            raise KeyboardInterrupt

    path = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        copy(source, target, resume=path, progress=stop)
    with pytest.raises(ValueError, match="other records"):
        copy(source, target, Query(kinds=(ERROR,)), resume=path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not a resume file"):
        copy(source, target, resume=path)


def test_an_unreachable_target_ends_it(tmp_path: Path, source: RecordStorage) -> None:
    fill(source, 300)
    target = FileStorage(str(tmp_path / "target"), durable=False)
    target.connect()

    def take_away(so_far: CopyResult) -> None:
        if (tmp_path / "target").is_dir():
            (tmp_path / "target").rename(tmp_path / "gone")
            (tmp_path / "target").write_text("a file")

    with pytest.raises(UnreachableError):
        copy(source, target, progress=take_away)
    target.disconnect()


class Zeros(io.RawIOBase):
    """So many bytes, made when they are read."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = min(len(buffer), self._left)
        buffer[:taken] = bytes(taken)
        self._left -= taken
        return taken


def test_a_blob_is_copied_in_constant_memory(tmp_path: Path) -> None:
    size = 100 << 20
    source, target = (FileStorage(str(tmp_path / name), durable=False) for name in ("source", "target"))
    source.connect()
    target.connect()
    source.store_blob(KEY, "zeros", io.BufferedReader(Zeros(size)))
    tracemalloc.start()
    try:
        assert copy(source, target).copied == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
    assert target.get_many([Ref(BLOB, KEY, "zeros")])[0].headers["size"] == size  # type: ignore[union-attr]
    source.disconnect()
    target.disconnect()
