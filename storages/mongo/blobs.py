"""The bytes of blobs and large payloads, in GridFS.

Its two collections are written here as MongoDB specifies them, and not by the driver's class, which keeps 48 MB of a
file in memory before it sends them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING
from pymongo.cursor import Cursor

from flowstore.errors import CorruptError, NotFoundError, StorageError, UnreachableError
from flowstore.storage import PART, Source, is_generation

from .documents import MongoDocument

if TYPE_CHECKING:
    from .connection import Connection

_SUFFIX: Final = "_blobs"
_PAGE: Final = 1000

_Found = tuple[str, float, str | None, partial[None]]
"""A generation, when it was written, the address of its record, and a function that deletes it."""


class BlobFiles:
    """The files of the bucket ``<collection>_blobs``, by generation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        records = connection.collection
        name, concern = f"{records.name}{_SUFFIX}", records.write_concern
        self._files = records.database.get_collection(f"{name}.files", write_concern=concern)
        self._chunks = records.database.get_collection(f"{name}.chunks", write_concern=concern)
        self._is_indexed = False

    def write(self, address: str, generation: str, source: Source) -> int:
        """Write a file; return the number of chunks. Failed writes are undone."""
        self._index()
        number = 0
        try:
            while part := source.read(PART):
                # Not a mutation for callers: nothing counts before a record points to it.
                chunk = {"files_id": generation, "n": number, "data": part, "written_at": self._connection.clock.now()}
                with self._connection.calling():
                    self._chunks.insert_one(chunk)
                number += 1
            file = {
                "_id": generation,
                "length": Int64(source.size),
                "chunkSize": PART,
                "uploadDate": datetime.now(UTC),
                "filename": generation,
                "metadata": {"record": address, "written_at": self._connection.clock.now()},
            }
            with self._connection.calling():
                self._files.insert_one(file)
        except BaseException as exc:
            # A silent server would take its full timeout again: the next cleanup deletes the chunks.
            if not isinstance(exc, UnreachableError):
                with suppress(StorageError):  # the first error is the one to raise
                    self.remove(generation)
            raise
        return number

    def read(self, generation: str, chunks: int) -> Generator[bytes, None, None]:
        """Yield a file's bytes; slow readers hold no cursor open.

        Raises:
            NotFoundError: a chunk is missing.
        """
        for number in range(chunks):
            with self._connection.calling():
                chunk = self._chunks.find_one({"files_id": generation, "n": number}, {"data": True})
            if chunk is None:
                raise NotFoundError(f"chunk {number} of the file {generation} in GridFS is missing")
            data = chunk.get("data")
            if not isinstance(data, bytes):
                raise CorruptError(f"chunk {number} of the file {generation} in GridFS has no bytes")
            yield bytes(data)

    def remove(self, generation: str) -> None:
        """Delete a file, and chunks without a file."""
        with self._connection.calling(mutates=True):
            self._files.delete_one({"_id": generation})
            self._chunks.delete_many({"files_id": generation})

    def all(self) -> Iterator[_Found]:
        """Iterate over all files, and over the chunks of writers that died."""
        for files in self._pages(self._files.find({"metadata.record": {"$gt": ""}}, {"metadata": True})):
            for file in files:
                facts = file["metadata"]
                # A file with another name, or without a time, is not flowstore's to delete.
                if is_generation(file["_id"]) and isinstance(facts.get("written_at"), int | float):
                    yield file["_id"], facts["written_at"], facts["record"], partial(self.remove, file["_id"])
        for chunks in self._pages(self._chunks.find({"n": 0}, {"files_id": True})):
            begun = [chunk["files_id"] for chunk in chunks if is_generation(chunk["files_id"])]
            with self._connection.calling():
                whole = {file["_id"] for file in self._files.find({"_id": {"$in": begun}}, {"_id": True})}
            for generation in begun:
                if generation not in whole and (written_at := self._written_at(generation)) is not None:
                    yield generation, written_at, None, partial(self.remove, generation)

    def _pages(self, found: Cursor[MongoDocument]) -> Iterator[list[MongoDocument]]:
        """Iterate over pages of documents: all may be more than memory holds."""
        with self._connection.calling():
            found.batch_size(_PAGE)
        while True:
            with self._connection.calling():
                page = list(islice(found, _PAGE))
            if not page:
                return
            yield page

    def _written_at(self, generation: str) -> float | None:
        """Return when an unfinished file was last written, None if unknown."""
        with self._connection.calling():
            last = self._chunks.find_one({"files_id": generation}, {"written_at": True}, sort=[("n", DESCENDING)])
        written_at = None if last is None else last.get("written_at")
        return written_at if type(written_at) is float else None

    def _index(self) -> None:
        if not self._is_indexed:
            with self._connection.calling(mutates=True):
                self._chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
                self._files.create_index([("filename", ASCENDING), ("uploadDate", ASCENDING)])
            self._is_indexed = True
