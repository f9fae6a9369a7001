"""Blobs of a storage that encrypts: streamed, in frames of which none can be changed, moved, left out or added."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore import CorruptError, FlowStore, Key, Record, Ref
from flowstore.copying import copy
from flowstore.encoding.codec import Encryption, file_size
from flowstore.encoding.pipeline import Pipeline
from flowstore.record import BLOB
from flowstore.storages import FileStorage, MemoryStorage

REF = Ref(BLOB, Key("flow", "task", "id"), "name")
PIPELINE = Pipeline(encryption=Encryption({"k": b"k" * 32, "other": b"o" * 32}, "k"))
FRAME = 64 * 1024
SEALED = FRAME + 16
SIZES = [0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 3 * FRAME + 5]
SECRET = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMi0="


def sealed(data: bytes, ref: Ref = REF) -> tuple[bytes, Record]:
    headers: dict[str, Any] = {"format": 1}
    file = PIPELINE.encode_file(ref, io.BytesIO(data), headers)
    assert file is not None
    stored = b"".join(iter(lambda: file.read(1000), b""))
    assert file.plain_size == len(data)
    return stored, Record(ref, b"", {**headers, "size": len(stored)})


def opened(stored: bytes, head: Record, pipeline: Pipeline = PIPELINE) -> bytes:
    with pipeline.decode_file(head, io.BytesIO(stored)) as file:
        return file.read()


@pytest.mark.parametrize("size", SIZES)
def test_any_size_comes_back(size: int) -> None:
    data = os.urandom(size)
    stored, head = sealed(data)
    assert opened(stored, head) == data
    assert file_size(head) == size
    assert len(stored) == size + 16 * max(1, -(-size // FRAME))


@given(st.lists(st.integers(1, 2 * FRAME), max_size=20), st.sampled_from(SIZES))
def test_it_may_be_read_in_any_steps(steps: list[int], size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    stored, head = sealed(data)
    with PIPELINE.decode_file(head, io.BytesIO(stored)) as file:
        parts = [file.read(step) for step in steps]
        assert b"".join(parts) + file.read() == data


def test_equal_blobs_differ_and_show_nothing() -> None:
    one, other = sealed(b"hunter2" * 100)[0], sealed(b"hunter2" * 100)[0]
    assert one != other
    assert b"hunter2" not in one


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "cut after a frame": lambda stored: stored[:SEALED],
    "cut within a frame": lambda stored: stored[:-1],
    "nothing left": lambda stored: b"",
    "frame left out": lambda stored: stored[SEALED:],
    "frames exchanged": lambda stored: stored[SEALED : 2 * SEALED] + stored[:SEALED] + stored[2 * SEALED :],
    "frame twice": lambda stored: stored[:SEALED] + stored,
    "last frame twice": lambda stored: stored + stored[2 * SEALED :],
    "byte added": lambda stored: stored + b"x",
    "bit flipped": lambda stored: stored[:-1] + bytes([stored[-1] ^ 1]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_stream_is_refused(name: str) -> None:
    data = os.urandom(2 * FRAME + 100)
    stored, head = sealed(data)
    with pytest.raises(CorruptError, match="can't be decrypted"):
        opened(FORGERIES[name](stored), head)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("salt", "00" * 32),
        ("salt", "00"),
        ("salt", "not hex"),
        ("salt", None),
        ("key_id", "other"),
        ("key_id", "gone"),
        ("key_id", None),
        ("format", 2),
        ("codecs", ["aes-256-gcm"]),
        ("codecs", None),
    ],
)
def test_exchanged_headers_are_refused(name: str, value: Any) -> None:
    stored, head = sealed(b"data")
    with pytest.raises(CorruptError):
        opened(stored, replace(head, headers={**head.headers, name: value}))


def test_a_stream_that_was_moved_is_refused() -> None:
    stored, head = sealed(b"data")
    for ref in (
        Ref(BLOB, REF.key, "other"),
        Ref(BLOB, Key("flow", "task", "id2"), "name"),
        Ref("own", REF.key, "name"),
    ):
        with pytest.raises(CorruptError, match="can't be decrypted"):
            opened(stored, replace(head, ref=ref))


def test_keys_are_needed_and_may_be_required() -> None:
    stored, head = sealed(b"data")
    with pytest.raises(CorruptError, match="encrypted with the key 'k', and its storage has no keys"):
        opened(stored, head, Pipeline())
    plain = Record(REF, b"", {"format": 1, "size": 4})
    assert opened(b"data", plain) == b"data"
    with pytest.raises(CorruptError, match="is not encrypted"):
        opened(b"data", plain, Pipeline(encryption=Encryption({"k": bytes(32)}, "k", required=True)))


@pytest.mark.parametrize("adapter", ["MemoryStorage", "FileStorage"])
@pytest.mark.parametrize("size", [0, 10, FRAME, 5 * 2**20 + 3])
def test_a_store_encrypts_its_blobs(adapter: str, size: int, tmp_path: Path) -> None:
    entry: dict[str, Any] = {"name": "S", "classname": adapter}
    entry["encryption"] = {"keys": {"k": SECRET}, "active": "k"}
    if adapter == "FileStorage":
        entry["configuration"] = {"path": str(tmp_path / "files"), "durable": False}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
    data = (b"hunter2 " * (size // 8 + 1))[:size]
    assert store.store_blob("flow", "task", "1", "name", io.BytesIO(data)) == size
    with store.retrieve_blob("flow", "task", "1", "name") as file:
        assert file.read() == data
    assert store.blobs("flow", "task", "1") == {"name": size}
    if adapter == "FileStorage":
        assert not any(b"hunter2" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    store.close()


def test_raw_bytes_are_passed_on_as_they_are_stored() -> None:
    source, target = MemoryStorage(), MemoryStorage()
    for storage in (source, target):
        storage.pipeline = PIPELINE
        storage.connect()
    source.store_blob(REF.key, "name", b"data" * 50_000)
    head = source.get(REF.key, BLOB, "name", payload=False)
    facts = {name: head.headers[name] for name in ("codecs", "key_id", "salt")}
    with source.retrieve_blob(REF.key, "name", raw=True) as file:
        target.store_blob(REF.key, "name", file, facts=facts, raw=True)
    with target.retrieve_blob(REF.key, "name") as file:
        assert file.read() == b"data" * 50_000
    assert target.get(REF.key, BLOB, "name", payload=False).headers["digest"] == head.headers["digest"]


def test_a_large_encrypted_value_comes_back_through_a_blob(tmp_path: Path) -> None:
    storage = FileStorage(path=str(tmp_path), durable=False)
    storage.blob_threshold = 1000
    storage.pipeline = PIPELINE
    storage.connect()
    for size in (10, 5000, 10):
        storage.store("flow", "task", "1", "x" * size)
        assert storage.retrieve("flow", "task", "1") == "x" * size
    storage.disconnect()


def test_copying_passes_on_what_is_encrypted() -> None:
    source, target = MemoryStorage(), MemoryStorage()
    for storage in (source, target):
        storage.connect()
    source.pipeline = PIPELINE
    source.store_blob(REF.key, "name", b"data" * 50_000)
    source.store("flow", "task", "id", {"a": "value"})
    result = copy(source, target)  # which needs no key
    assert (result.copied, result.failed) == (2, 0)
    with pytest.raises(CorruptError, match="has no keys"):
        target.retrieve("flow", "task", "id")
    target.pipeline = PIPELINE
    assert target.retrieve("flow", "task", "id") == {"a": "value"}
    with target.retrieve_blob(REF.key, "name") as file:
        assert file.read() == b"data" * 50_000
