"""Blobs: streamed, stored apart from their records, deleted with them."""

from __future__ import annotations

import io
import threading
import tracemalloc
from typing import Any, Final

import pytest

from flowstore.errors import ConflictError, NotFoundError
from flowstore.record import BLOB, Key, Query
from flowstore.storage import PART, RecordStorage
from flowstore.testing.base import Adapter, AdapterTests, not_offered
from flowstore.testing.concurrency import in_threads
from flowstore.testing.samples import KEY, record

OTHER: Final = Key("flow", "task", "2")
SIZES: Final = (0, 1, 65_535, 65_536, 65_537, PART - 1, PART, PART + 1, 3 * PART + 5)

THRESHOLD: Final = 1000
_STREAMED: Final = 64 << 20
_HELD: Final = 40 << 20
"""Of a blob of ``_STREAMED`` bytes: memory for some parts and their copies, in whatever the driver makes of them."""


class Endless(io.RawIOBase):
    """A file of ``size`` zero bytes that are made as they are read."""

    def __init__(self, size: int, fails: Exception | None = None) -> None:
        self._left = size
        self._fails = fails

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._left)
        if not size and self._fails is not None:
            raise self._fails
        self._left -= size
        buffer[:size] = bytes(size)
        return size


def content(seed: str, size: int) -> bytes:
    """Return bytes that share no part with the bytes of another seed."""
    return (f"{seed}:".encode() * (size // (len(seed) + 1) + 1))[:size]


def contents(storage: RecordStorage) -> int:
    """Count the payloads that are stored apart from records."""
    return sum(1 for _ in storage._contents())


def read(storage: RecordStorage, key: Key = KEY, name: str = "a") -> bytes:
    """Return the bytes of a blob."""
    with storage.retrieve_blob(key, name) as file:
        return file.read()


class BlobTests(AdapterTests):
    """A blob is returned as stored, or not at all; orphans are deleted."""

    aspect = "blobs"

    def test_returns_blobs_of_any_size(self, storage: RecordStorage) -> None:
        """A blob is cut or padded at a part boundary, or mixed with another."""
        for size in (*SIZES, *reversed(SIZES)):
            data = content(str(size), size)
            assert storage.store_blob(KEY, "a", io.BytesIO(data)) == size
            assert read(storage) == data
            assert [(one.ref.name, one.headers["size"]) for one in storage.blobs(KEY)] == [("a", size)]
            assert contents(storage) == (size > 65_536)

    def test_reads_as_a_file(self, storage: RecordStorage) -> None:
        """A blob can't be read like a file: in any pieces, to its end, closed."""
        data = content("file", 2 * PART + 7)
        storage.store_blob(KEY, "a", data)
        with storage.retrieve_blob(KEY, "a") as file:
            assert file.read(3) == data[:3]
            buffer = bytearray(PART)
            assert file.readinto(buffer) == PART  # type: ignore[attr-defined]
            assert buffer == data[3 : PART + 3]
            assert file.read() == data[PART + 3 :]
            assert (file.read(), file.read(1)) == (b"", b"")
        with pytest.raises(ValueError, match="closed"):
            file.read()
        storage.retrieve_blob(KEY, "a").close()

    def test_stores_from_bytes_and_from_files_that_give_little(self, storage: RecordStorage) -> None:
        """A pipe with short reads is cut, or a file is read from its start."""
        data = content("little", 70_000)

        class Pipe(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(min(size or 0, 1000))

        half = io.BytesIO(data)
        half.seek(35_000)
        for file in (data, bytearray(data), memoryview(data), Pipe(data)):
            assert storage.store_blob(KEY, "a", file) == 70_000
            assert read(storage) == data
        storage.store_blob(KEY, "a", half)
        assert read(storage) == data[35_000:]

    def test_an_empty_blob_is_not_a_missing_one(self, storage: RecordStorage) -> None:
        """An empty blob is treated as a missing one, or the other way round."""
        assert not storage.has_blob(KEY, "a")
        with pytest.raises(NotFoundError):
            storage.retrieve_blob(KEY, "a")
        assert storage.store_blob(KEY, "a", b"") == 0
        assert storage.has_blob(KEY, "a")
        assert read(storage) == b""
        assert storage.delete_blob(KEY, "a")
        assert not storage.delete_blob(KEY, "a")
        assert not storage.has_blob(KEY, "a")
        with pytest.raises(NotFoundError):
            storage.retrieve_blob(KEY, "a")

    def test_keeps_blobs_apart(self, storage: RecordStorage) -> None:
        """Blobs of different keys or names are mixed up, or listed as results."""
        data = content("x", PART)
        for key, name in ((KEY, "a"), (KEY, "A"), (KEY, "é/../\0"), (OTHER, "a")):
            storage.store_blob(key, name, data + f"{key}{name}".encode())
        storage.store(*names(KEY), "result")
        for key, name in ((KEY, "a"), (KEY, "A"), (KEY, "é/../\0"), (OTHER, "a")):
            assert read(storage, key, name) == data + f"{key}{name}".encode()
        assert [one.ref.name for one in storage.blobs(KEY)] == ["a", "A", "é/../\0"]
        assert storage.retrieve(*names(KEY)) == "result"
        assert storage.count(Query()) == 5, "the parts of blobs are listed"
        assert storage.count(Query(kinds=(BLOB,))) == 4
        assert len(list(storage.records(Query()))) == len(storage.scan(Query()).records) == 5

    def test_another_instance_reads_blobs_and_large_values(self, adapter: Adapter, storage: RecordStorage) -> None:
        """Another instance can't read a blob, whatever its own threshold."""
        if "instances" in self.lacks:
            not_offered(self.lacks["instances"])
        storage.blob_threshold = THRESHOLD
        storage.store_blob(KEY, "a", content("x", PART))
        storage.store(*names(KEY), "x" * 5000)
        with adapter.opened() as other:
            assert read(other) == content("x", PART)
            assert other.retrieve(*names(KEY)) == "x" * 5000
            other.store(*names(KEY), "small")
            assert other.delete_blob(KEY, "a")
            assert contents(storage) == 0
        assert storage.retrieve(*names(KEY)) == "small"

    def test_streams(self, storage: RecordStorage) -> None:
        """A blob is held in memory as a whole.

        One that is larger than the memory can be neither stored nor read.
        """
        if "instances" in self.lacks:
            not_offered("everything is kept in this process's memory")
        storage.store_blob(KEY, "a", content("warm up", 3 * PART))
        read(storage)
        tracemalloc.start()
        try:
            storage.store_blob(KEY, "a", Endless(_STREAMED))
            stored = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            with storage.retrieve_blob(KEY, "a") as file:
                size = sum(len(part) for part in iter(lambda: file.read(PART), b""))
            retrieved = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert size == _STREAMED
        assert max(stored, retrieved) < _HELD, f"{stored} bytes to store, {retrieved} to retrieve"

    def test_a_reader_is_not_torn_by_a_writer(self, storage: RecordStorage) -> None:
        """A blob that is replaced while it is read is a mix of both.

        The reader must get the old blob as a whole, or ConflictError.
        """
        old, new = content("old", 12 * PART), content("new", 12 * PART)
        storage.store_blob(KEY, "a", old)
        with storage.retrieve_blob(KEY, "a") as file:
            found = file.read(PART)
            storage.store_blob(KEY, "a", new)
            try:
                found += file.read()
            except ConflictError:
                found = old
        assert found == old
        assert read(storage) == new
        with storage.retrieve_blob(KEY, "a") as file:
            found = file.read(PART)
            storage.delete_blob(KEY, "a")
            try:
                found += file.read()
            except ConflictError:
                found = new
        assert found == new

    def test_threads_replace_and_read(self, storage: RecordStorage) -> None:
        """Concurrent writers of a blob leave orphans, or readers see a mix."""
        blobs = [content(str(number), PART + number) for number in range(8)]
        storage.store_blob(KEY, "a", blobs[0])
        storage.blob_threshold = THRESHOLD
        values = [str(number) * 3000 for number in range(8)]
        storage.store(*names(KEY), values[0])
        done = threading.Event()

        def work(barrier: Any, worker: int) -> list[object]:
            barrier.wait()
            if worker < 4:
                try:
                    for turn in range(5):
                        storage.store_blob(KEY, "a", blobs[worker + turn % 4])
                        storage.store(*names(KEY), values[worker + turn % 4] if turn % 2 else "small")
                finally:
                    if worker == 0:
                        done.set()
                return []
            wrong: list[object] = []
            while not done.is_set():
                try:
                    found = read(storage)
                except ConflictError:
                    continue
                if found not in blobs:
                    wrong.append(found[:20])
                value = storage.retrieve(*names(KEY))
                if value not in (*values, "small"):
                    wrong.append(value[:20])
            return wrong

        assert in_threads(work, self.deadline, count=6) == [[]] * 6
        assert read(storage) in blobs
        assert storage.retrieve(*names(KEY)) in (*values, "small")
        storage.remove_orphans(0)
        assert contents(storage) == 1 + (storage.retrieve(*names(KEY)) != "small")

    def test_a_blob_that_fails_leaves_the_old_one(self, storage: RecordStorage) -> None:
        """A file that fails while it is read replaced the old blob.

        The error must be that of the file, and nothing of it may stay.
        """
        storage.store_blob(KEY, "a", b"old")
        with pytest.raises(OSError, match="broken pipe"):
            storage.store_blob(KEY, "a", Endless(10 * PART, OSError("broken pipe")))
        for text in (io.StringIO("text"), "text", 1, None):
            with pytest.raises(TypeError):
                storage.store_blob(KEY, "a", text)  # type: ignore[arg-type]
        assert read(storage) == b"old"
        assert contents(storage) == 0
        storage.remove_orphans(0)
        assert read(storage) == b"old"

    def test_a_value_is_no_blob(self, storage: RecordStorage) -> None:
        """A value is treated as a blob, or a blob as a value."""
        storage.put(record(KEY, "value", BLOB, "a"))
        assert not storage.has_blob(KEY, "a")
        with pytest.raises(Exception, match="is not a blob"):
            storage.retrieve_blob(KEY, "a")
        storage.store_blob(KEY, "a", b"x")
        with pytest.raises(ValueError, match="store_blob"):
            storage.put(storage.get(KEY, BLOB, "a"))


def names(key: Key) -> tuple[str, str, str]:
    """Return a key as the arguments of ``store`` and ``retrieve``."""
    return key.flow_name, key.task_name, key.task_id
