"""Blobs through ``FlowStore``, and the threshold above which values become some."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flowstore import (
    ConfigurationError,
    ExpiredError,
    FlowStore,
    NotFoundError,
    ReadonlyError,
    RecordStorage,
    UnknownStorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.record import Key, Record
from flowstore.storage.streams import Source, Stream
from flowstore.storages import MemoryStorage

KEY = ("f", "t", "1")
LARGE = os.urandom(200_000)


class FlakyStorage(MemoryStorage):
    """Can't be reached the first times that something is written."""

    failures: ClassVar[int] = 0

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        if FlakyStorage.failures:
            FlakyStorage.failures -= 1
            raise UnreachableError("not now")
        return super()._put(record, if_revision, now)


def flaky(failures: int) -> FlowStore:
    FlakyStorage.failures = failures
    return FlowStore(
        {
            "storages": [{"name": "S", "classname": "FlakyStorage", "import": __name__}],
            "global": {"default_storage": "S"},
        }
    )


def opened(tmp_path: Path, tasks: Any = (), **entry: Any) -> FlowStore:
    storage = {"name": "S", "classname": "FileStorage", "configuration": {"path": str(tmp_path / "s")}, **entry}
    return FlowStore({"storages": [storage], "tasks": list(tasks), "global": {"default_storage": "S"}})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FlowStore]:
    store = opened(tmp_path)
    yield store
    store.close()


def records(store: FlowStore) -> RecordStorage:
    storage = store.storage("S")
    assert isinstance(storage, RecordStorage)
    return storage


def contents(store: FlowStore) -> int:
    return sum(1 for _ in records(store)._contents())


def test_stores_and_retrieves(store: FlowStore) -> None:
    assert store.store_blob(*KEY, "a", io.BytesIO(LARGE)) == len(LARGE)
    assert store.store_blob(*KEY, "b", b"") == 0
    assert store.blobs(*KEY) == {"a": len(LARGE), "b": 0}
    with store.retrieve_blob(*KEY, "a") as file:
        assert file.read() == LARGE
    assert store.retrieve_blob(*KEY, "b").read() == b""
    assert store.delete_blob(*KEY, "a")
    assert not store.delete_blob(*KEY, "a")
    with pytest.raises(NotFoundError):
        store.retrieve_blob(*KEY, "a")
    assert store.delete(*KEY)
    assert store.blobs(*KEY) == {}


def test_goes_with_its_run(store: FlowStore) -> None:
    store.store_blob(*KEY, "a", LARGE, run_id="r")
    store.store_blob("f", "t", "2", "a", LARGE, run_id="s")
    assert store.delete_run("r") == 1
    assert store.blobs(*KEY) == {}
    assert contents(store) == 1


def test_expires(tmp_path: Path) -> None:
    store = opened(tmp_path, expires="7d")
    store.store_blob(*KEY, "kept", LARGE)
    store.store_blob(*KEY, "gone", LARGE, expires_in=0)
    store.store_blob(*KEY, "ever", b"", expires_in=None)
    with pytest.raises(ExpiredError):
        store.retrieve_blob(*KEY, "gone")
    assert store.blobs(*KEY) == {"kept": len(LARGE), "ever": 0}
    expiry = {one.ref.name: one.expires_at for one in records(store).blobs(Key(*KEY))}
    assert expiry["ever"] is None
    assert expiry["kept"] is not None
    assert store.cleanup() == 1
    assert contents(store) == 1
    store.close()


def test_tries_again_what_can_be_read_again() -> None:
    for file, rest in ((LARGE, LARGE), (bytearray(LARGE), LARGE), (io.BytesIO(LARGE), LARGE[10:])):
        if isinstance(file, io.BytesIO):
            file.seek(10)
        store = flaky(2)
        assert store.store_blob(*KEY, "a", file) == len(rest)
        assert FlakyStorage.failures == 0
        assert store.retrieve_blob(*KEY, "a").read() == rest


def test_does_not_try_again_what_is_read_once() -> None:
    store = flaky(2)
    reader, writer = os.pipe()
    os.write(writer, b"x" * 1000)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe, pytest.raises(UnreachableError):
        store.store_blob(*KEY, "a", pipe)
    assert FlakyStorage.failures == 1
    assert store.blobs(*KEY) == {}


def test_refuses_what_the_configuration_forbids(tmp_path: Path) -> None:
    store = opened(tmp_path, [{"name": "t", "storage": "S", "storage_readonly": True}])
    with pytest.raises(ReadonlyError, match="storage_readonly"):
        store.store_blob(*KEY, "a", b"")
    with pytest.raises(ReadonlyError, match="storage_readonly"):
        store.delete_blob(*KEY, "a")
    with pytest.raises(UnknownStorageError):
        FlowStore({"storages": [{"name": "MemoryStorage"}]}).store_blob(*KEY, "a", b"")
    plain = FlowStore(
        {
            "storages": [{"name": "PlainStorage", "import": "tests.store.own_adapters"}],
            "global": {"default_storage": "PlainStorage"},
        }
    )
    for call in (lambda: plain.store_blob(*KEY, "a", b""), lambda: plain.retrieve_blob(*KEY, "a")):
        with pytest.raises(UnsupportedError):
            call()


def test_large_values_go_there_by_themselves(tmp_path: Path) -> None:
    store = opened(tmp_path, blob_threshold=1000, compression="gzip")
    store.store(*KEY, "x" * 100_000)
    assert contents(store) == 0, "what is compared is what is stored"
    value = LARGE.hex()
    store.store(*KEY, value)
    assert contents(store) == 1
    assert store.retrieve(*KEY) == value
    other = opened(tmp_path)
    assert other.retrieve(*KEY) == value
    other.store(*KEY, "small")
    assert contents(store) == 0
    try:
        raise ValueError(value)
    except ValueError as exc:
        store.store_error(None, *KEY, exc)
    assert value[:100] in str(store.retrieve_error(*KEY))


@pytest.mark.parametrize("threshold", [0, -1, True, "1 MB", 1.5])
def test_refuses_what_is_no_threshold(tmp_path: Path, threshold: object) -> None:
    with pytest.raises(ConfigurationError, match="blob_threshold"):
        opened(tmp_path, blob_threshold=threshold)


def test_a_threshold_is_for_storages_of_records() -> None:
    with pytest.raises(ConfigurationError, match="it is not a RecordStorage"):
        FlowStore(
            {"storages": [{"name": "PlainStorage", "import": "tests.store.own_adapters", "blob_threshold": 1000}]}
        )


def test_a_source_measures_what_is_read() -> None:
    source = Source(b"abcdef")
    assert (source.peek(2), source.peek(4), source.peek(100)) == (b"ab", b"abcd", b"abcdef")
    assert source.size == 0
    assert [source.read(4), source.read(4), source.read(4)] == [b"abcd", b"ef", b""]
    assert source.size == 6


def test_a_stream_lets_go_of_what_it_comes_from() -> None:
    closed = []

    def parts() -> Generator[bytes, None, None]:
        try:
            yield b"first"
            yield b""
            yield b"second"
        finally:
            closed.append(True)

    stream = Stream(b"", parts())
    assert stream.read(3) == b"fir"
    assert stream.readall() == b"stsecond"
    assert stream.read(1) == b""
    unread = Stream(b"", parts())
    assert unread.read(1) == b"f"
    unread.close()
    unread.close()
    assert closed == [True, True]
    with pytest.raises(ValueError, match="closed"):
        unread.read(1)
