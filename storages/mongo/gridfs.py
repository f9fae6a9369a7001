"""The bytes of blobs and large values in GridFS.

Its two collections are written here by MongoDB's specification, and not by the driver's own class, which keeps 48 MB of
a file in memory before it sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from bson.binary import Binary
from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.cursor import Cursor

from flowstore.errors import CorruptError, NotFoundError, StorageError, UnreachableError
from flowstore.storage import PART, Source, is_generation

_SUFFIX: Final = "_blobs"
_PAGE: Final = 1000

Calling = Callable[[bool], AbstractContextManager[None]]
"""Turns what the driver raises inside into flowstore's errors; told whether something is changed."""

Found = tuple[str, float, str | None, partial[None]]
"""A generation, when it was written, the address of the record that it was written for, and what deletes it."""


class BlobFiles:
    """The files in ``<collection>_blobs.files`` and ``<collection>_blobs.chunks``, by their generation."""

    def __init__(self, records: Collection[dict[str, Any]], calling: Calling, now: Callable[[], float]) -> None:
        self._calling = calling
        self._now = now
        name, concern = f"{records.name}{_SUFFIX}", records.write_concern
        self._files = records.database.get_collection(f"{name}.files", write_concern=concern)
        self._chunks = records.database.get_collection(f"{name}.chunks", write_concern=concern)
        self._is_indexed = False

    def write(self, address: str, generation: str, source: Source) -> int:
        """Write a file; return the number of its chunks. One that fails leaves nothing behind."""
        self._index()
        number = 0
        try:
            while part := source.read(PART):
                # Nothing that counts changes before a record points to it: no outcome is unknown.
                chunk = {"files_id": generation, "n": number, "data": Binary(part), "written_at": self._now()}
                with self._calling(False):
                    self._chunks.insert_one(chunk)
                number += 1
            file = {
                "_id": generation,
                "length": Int64(source.size),
                "chunkSize": PART,
                "uploadDate": datetime.now(UTC),
                "filename": generation,
                "metadata": {"record": address, "written_at": self._now()},
            }
            with self._calling(False):
                self._files.insert_one(file)
        except BaseException as exc:
            # A server that is silent would be silent once more, for as long: the next cleanup removes what is there.
            if not isinstance(exc, UnreachableError):
                with suppress(StorageError):  # the error that ended the writing is the one to tell
                    self.remove(generation)
            raise
        return number

    def read(self, generation: str, chunks: int) -> Generator[bytes, None, None]:
        """Yield a file's bytes, chunk by chunk, so that a slow reader keeps no cursor waiting.

        Raises:
            NotFoundError: a chunk is not there any more.
        """
        for number in range(chunks):
            with self._calling(False):
                chunk = self._chunks.find_one({"files_id": generation, "n": number}, {"data": True})
            if chunk is None:
                raise NotFoundError(f"chunk {number} of the file {generation} in GridFS is not there")
            data = chunk.get("data")
            if not isinstance(data, bytes):
                raise CorruptError(f"chunk {number} of the file {generation} in GridFS has no bytes")
            yield bytes(data)

    def remove(self, generation: str) -> None:
        """Delete a file, or what is there of it."""
        with self._calling(True):
            self._files.delete_one({"_id": generation})
            self._chunks.delete_many({"files_id": generation})

    def all(self) -> Iterator[Found]:
        """Go through all files, and what writers that died have left of some."""
        for files in self._pages(self._files.find({"metadata.record": {"$gt": ""}}, {"metadata": True})):
            for file in files:
                facts = file["metadata"]
                # What is called otherwise, or says nothing of when it was written, is not flowstore's to delete.
                if is_generation(file["_id"]) and isinstance(facts.get("written_at"), int | float):
                    yield file["_id"], facts["written_at"], facts["record"], partial(self.remove, file["_id"])
        for chunks in self._pages(self._chunks.find({"n": 0}, {"files_id": True})):
            begun = [chunk["files_id"] for chunk in chunks if is_generation(chunk["files_id"])]
            with self._calling(False):
                whole = {file["_id"] for file in self._files.find({"_id": {"$in": begun}}, {"_id": True})}
            for generation in begun:
                if generation not in whole and (written_at := self._written_at(generation)) is not None:
                    yield generation, written_at, None, partial(self.remove, generation)

    def _pages(self, found: Cursor[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Go through what is found, a page at a time: there may be more than memory holds."""
        with self._calling(False):
            found.batch_size(_PAGE)
        while True:
            with self._calling(False):
                page = list(islice(found, _PAGE))
            if not page:
                return
            yield page

    def _written_at(self, generation: str) -> float | None:
        """Return when the last chunk of a file was written that has no end, if that is told."""
        with self._calling(False):
            last = self._chunks.find_one({"files_id": generation}, {"written_at": True}, sort=[("n", DESCENDING)])
        told = None if last is None else last.get("written_at")
        return told if type(told) is float else None

    def _index(self) -> None:
        if not self._is_indexed:
            with self._calling(True):
                self._chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
                self._files.create_index([("filename", ASCENDING), ("uploadDate", ASCENDING)])
            self._is_indexed = True
