"""Files that somebody else has made or prepared: imports refuse what no export writes, exports follow no links."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flowstore import Key, Query
from flowstore.copying import copy, import_records, open_export
from flowstore.record import RESULT, Ref
from flowstore.storage import RecordStorage
from flowstore.storages import FileStorage, MemoryStorage, SqlStorage
from tests.storages.storage_kit import connected_to, record

GENERATION = "ab" * 16
HEADERS = {
    "format": 1, "serializer": "json", "content_type": "application/json", "size": 1, "token": "t", "stored_at": 1.0,
    "digest": hashlib.blake2b(b"1", digest_size=16).hexdigest(),
}  # fmt: skip
LINE = {
    "kind": "result", "flow": "f", "task": "t", "id": "i", "name": "", "revision": 1, "headers": HEADERS, "payload": "1"
}  # fmt: skip
NOTE = {**LINE, "kind": "piece", "flow": "", "task": "", "id": "zz", "name": "generations", "payload": ""}
CONTENT = {"generation": GENERATION, "pieces": 1, "size": 1, "content_type": None}
HOSTILE: dict[str, dict[str, Any]] = {
    "a piece": {**LINE, "kind": "piece"},
    "a note": {**NOTE, "headers": {"format": 1, "of": ["result", "f", "t", "q", ""], "generations": {GENERATION: 1}}},
    "a note of 5": {**NOTE, "headers": {"format": 1, "of": 5, "generations": {}}},
    "a note of many": {**NOTE, "headers": {"of": ["result", "f", "t", "q", ""], "generations": {GENERATION: 10**9}}},
    "a content": {**LINE, "headers": {**HEADERS, "content": CONTENT}},
    "a content outside": {**LINE, "headers": {**HEADERS, "content": {**CONTENT, "generation": "../../x"}}},
    "generations": {**LINE, "headers": {**HEADERS, "generations": {}}},
    "a blob without a digest": {**LINE, "headers": {**HEADERS, "blob": True, "digest": None, "content": CONTENT}},
    "revision 0": {**LINE, "revision": 0}, "revision -5": {**LINE, "revision": -5},
    "revision 10**18": {**LINE, "revision": 10**18},
    **{
        f"{name} {value!r}": {**LINE, "headers": {**HEADERS, name: value}}
        for name, value in (
            ("run_id", 5), ("stored_at", "x"), ("expires_at", "x"), ("state", []), ("parents", 5), ("attempt", None)
        )
    },
}  # fmt: skip


@pytest.fixture(params=["memory", "file", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made: dict[str, Any] = {
        "memory": MemoryStorage,
        "file": lambda: FileStorage(str(tmp_path / "files"), durable=False),
        "sqlite": lambda: SqlStorage(f"sqlite:///{tmp_path}/records.db"),
    }
    with connected_to(made[request.param]()) as storage:
        storage.blob_threshold = 1000
        yield storage


def exported(*lines: dict[str, Any]) -> io.BytesIO:
    """Return a file that says it was exported."""
    digest, data = hashlib.blake2b(digest_size=16), b""
    everything = [{"format": "flowstore-export", "version": 1}, *lines]
    for line in everything:
        text = (json.dumps(line) + "\n").encode()
        digest.update(text)
        data += text
    end = {"records": len(lines), "blobs": 0, "lines": len(everything), "digest": digest.hexdigest()}
    return io.BytesIO(data + (json.dumps({"end": end}) + "\n").encode())


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_export_writes_is_refused_by_itself(storage: RecordStorage, name: str) -> None:
    storage.store("f", "t", "victim", "v" * 5000)
    hostile = HOSTILE[name]
    parts = [{"part": None}] if "blob" in hostile["headers"] else []
    problems: list[Any] = []
    lines = [{**LINE, "id": "before"}, hostile, *parts, {**LINE, "id": "after"}]
    result = import_records(exported(*lines), storage, report=problems.append)
    assert (result.copied, result.failed) == (2, 1)
    assert [one.message.startswith("line 3: ") for one in problems] == [True]
    assert storage.cleanup() == storage.cleanup("1000d") - 2 == 0
    assert storage.retrieve("f", "t", "victim") == "v" * 5000


def test_a_note_cannot_reach_the_bytes_of_another_record(storage: RecordStorage) -> None:
    storage.store("f", "t", "victim", "v" * 5000)
    head = storage._get(Ref(RESULT, Key("f", "t", "victim")), False)
    assert head is not None
    generation, ghost = head.headers["content"]["generation"], Ref(RESULT, Key("f", "t", "ghost"))
    headers = {"format": 1, "stored_at": 1.0, "of": list(ghost.names), "generations": {generation: 1}}
    line = {**NOTE, "id": ghost.address.hex(), "headers": headers}
    assert import_records(exported(line), storage).failed == 1
    storage.cleanup()
    assert storage.retrieve("f", "t", "victim") == "v" * 5000


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz", "all.jsonl.zst"])
def test_an_export_is_private_and_follows_no_link(tmp_path: Path, name: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / name
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    with open_export(str(path), "wb") as file:
        file.write(b"x" * 100)
        assert victim.read_bytes() == b"precious"
        assert path.is_symlink(), "it appears when it is complete"
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_export(str(path), "rb") as file:
        assert file.read(200) == b"x" * 100
    with suppress(RuntimeError), open_export(str(path), "wb") as file:
        file.write(b"y")
        raise RuntimeError
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([name, "victim"])


def test_a_journal_follows_no_link(tmp_path: Path) -> None:
    with connected_to(MemoryStorage()) as source, connected_to(MemoryStorage()) as target:
        source.put_many([record(Key("f", "t", str(number)), number) for number in range(500)])
        victim, path = tmp_path / "victim", tmp_path / "journal.json"
        victim.write_bytes(b"precious")
        (tmp_path / "journal.json.new").symlink_to(victim)
        seen: list[int] = []

        def look(_: Any) -> None:
            if path.exists():
                seen.append(stat.S_IMODE(path.stat().st_mode))

        copy(source, target, resume=str(path), progress=look)
        assert set(seen) == {0o600}
        assert victim.read_bytes() == b"precious"
        assert target.count(Query()) == 500
