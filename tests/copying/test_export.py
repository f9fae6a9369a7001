"""Records in a file, and back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from flowstore.copying import CopyResult, Exported, export_records, import_records, open_export, verify
from flowstore.errors import CorruptError, UnsupportedError
from flowstore.record import Key, Query
from flowstore.storage import RecordStorage
from flowstore.storages import MemoryStorage
from flowstore.testing import record
from tests.copying.test_copy import everything, fill

KEY = Key("flow", "task", "1")


def memory() -> RecordStorage:
    storage = MemoryStorage()
    storage.connect()
    return storage


@pytest.fixture
def source() -> RecordStorage:
    return memory()


def exported(storage: RecordStorage) -> bytes:
    file = io.BytesIO()
    export_records(storage, file)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_everything_comes_back(tmp_path: Path, source: RecordStorage, suffix: str) -> None:
    fill(source)
    path = str(tmp_path / f"export.{suffix}")
    with open_export(path, "wb") as file:
        assert export_records(source, file) == Exported(records=len(everything(source)), blobs=2)
    target = memory()
    for expected in (CopyResult(copied=len(everything(source))), CopyResult(skipped=len(everything(source)))):
        with open_export(path, "rb") as file:
            assert import_records(file, target) == expected
    assert everything(target) == everything(source)
    assert verify(source, target).is_same


def test_any_program_can_read_the_lines(source: RecordStorage) -> None:
    """The form that docs/copy.md describes."""
    source.put(record(KEY, {"n": 1}))
    source.put(record(KEY, {"n": 2}))
    source.store_blob(KEY, "b", b"bytes")
    first, value, blob, part, last_part, last = map(json.loads, exported(source).splitlines())
    assert first == {"format": "flowstore-export", "version": 1}
    assert (value["kind"], value["flow"], value["task"], value["id"], value["name"]) == (
        "result",
        "flow",
        "task",
        "1",
        "",
    )
    assert (value["revision"], json.loads(value["payload"])) == (source.get(KEY).revision, {"n": 2})
    assert value["headers"] == source.get(KEY).headers
    assert (blob["kind"], blob["name"], blob["headers"]["size"]) == ("blob", "b", 5)
    assert (part, last_part) == ({"part": "Ynl0ZXM="}, {"part": None})
    assert last["end"]["lines"] == 5
    assert (last["end"]["records"], last["end"]["blobs"]) == (2, 1)


def test_only_what_is_asked_for(source: RecordStorage) -> None:
    fill(source)
    file = io.BytesIO()
    done = export_records(source, file, Query(run_id="r2"))
    file.seek(0)
    target = memory()
    assert import_records(file, target).copied == done.records == source.count(Query(run_id="r2"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_file_that_was_cut_off_is_refused(source: RecordStorage, share: float) -> None:
    """And what came before the cut has arrived; the whole file completes it."""
    fill(source, 300)
    data = exported(source)
    target = memory()
    with pytest.raises(CorruptError):
        import_records(io.BytesIO(data[: int(len(data) * share)]), target)
    assert import_records(io.BytesIO(data), target).failed == 0
    assert everything(target) == everything(source)


def test_a_file_without_its_last_line_is_refused(source: RecordStorage) -> None:
    fill(source, 10)
    lines = exported(source).splitlines(keepends=True)
    with pytest.raises(CorruptError, match="truncated"):
        import_records(io.BytesIO(b"".join(lines[:-1])), memory())
    with pytest.raises(CorruptError, match="do not match its digest"):
        import_records(io.BytesIO(b"".join([*lines[:3], *lines[4:]])), memory())
    with pytest.raises(CorruptError, match="after its last line"):
        import_records(io.BytesIO(b"".join([*lines, lines[3]])), memory())


def test_changed_payloads_are_not_imported(source: RecordStorage) -> None:
    source.put(record(KEY, "value 3"))
    source.put(record(Key("flow", "task", "2"), "fine"))
    target = memory()
    problems: list[Any] = []
    data = exported(source).replace(b"value 3", b"value 4")
    with pytest.raises(CorruptError):
        import_records(io.BytesIO(data), target, report=problems.append)
    lines = data.splitlines(keepends=True)
    assert len(lines) == 4
    assert target.count(Query()) == 0, "nothing is written before the batch's end"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", CorruptError),
        (b"hello\n", CorruptError),
        (b"[]\n", CorruptError),
        (b'{"format": "other"}\n', CorruptError),
        (b'{"format": "flowstore-export", "version": 2}\n', UnsupportedError),
        (b'{"format": "flowstore-export", "version": 1}\n{"kind": 1}\n', CorruptError),
        (b'{"format": "flowstore-export", "version": 1}\n{"part": "x"}\n', CorruptError),
        (b'{"format": "flowstore-export", "version": 1}\n{"end": 1}\n', CorruptError),
    ],
)
def test_other_files_are_refused(text: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        import_records(io.BytesIO(text), memory())


def test_a_damaged_record_is_not_exported(source: RecordStorage) -> None:
    damaged = record(KEY, "value")
    source.put(type(damaged)(damaged.ref, b'"other"', damaged.headers))
    source.put(record(Key("flow", "task", "2"), "fine"))
    problems: list[Any] = []
    file = io.BytesIO()
    done = export_records(source, file, report=problems.append)
    assert (done.records, done.failed) == (1, 1)
    assert [(one.ref, "digest" in one.message) for one in problems] == [(damaged.ref, True)]
    file.seek(0)
    assert import_records(file, memory()).copied == 1


def test_a_file_that_is_not_compressed_as_its_name_says_is_refused(tmp_path: Path) -> None:
    for suffix in ("gz", "zst"):
        path = tmp_path / f"export.{suffix}"
        path.write_bytes(b"not compressed\n")
        with pytest.raises(CorruptError), open_export(str(path), "rb") as file:
            import_records(file, memory())
