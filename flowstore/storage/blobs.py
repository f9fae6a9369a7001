"""Blobs: files of any size beside the results of a task, streamed in and out."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Generator, Mapping
from typing import Any, BinaryIO, Final

from flowstore.encoding.pipeline import Pipeline
from flowstore.errors import ConflictError, CorruptError, NotFoundError, StorageError, UnreachableError
from flowstore.record import BLOB, FORMAT, Key, Query, Record, Ref
from flowstore.record.headers import check_headers
from flowstore.storage.payloads import CONTENT, content_of, generation_of
from flowstore.storage.pointers import BYTES, READS
from flowstore.storage.records import Records
from flowstore.storage.revisions import new_revision
from flowstore.storage.streams import Readable, Source, Stream

_INLINE: Final = 64 * 1024
_BUFFER: Final = 64 * 1024


class Blobs(Records):
    """The operations on blobs. A blob has a key and a name; its bytes are kept as they are, or encrypted.

    ``raw`` passes them on as they are stored, encrypted or not, to be copied with their headers.
    """

    pipeline: Pipeline

    def store_blob(
        self,
        key: Key,
        name: str,
        file: Readable,
        *,
        kind: str = BLOB,
        facts: Mapping[str, Any] | None = None,
        raw: bool = False,
        revision: int | None = None,
    ) -> int:
        """Store a blob, replacing an older one; return its size.

        It is read and sent a part at a time, and there as a whole or not at all. Readers of the older one find it whole
        or get an error; none gets a mix.

        Args:
            file: bytes, or a file opened in binary mode, read from where it is to its end; it is not closed.
            facts: further headers of its record, JSON-able.
            revision: of a copy, the one that it has where nothing is; else a new one.

        Raises:
            TypeError: it is neither.
            StorageError: it could not be stored; an older one is still there.
        """
        ref, source = Ref(kind, key, name), Source(file)
        headers = {
            "format": FORMAT,
            "content_type": BYTES,
            "token": os.urandom(8).hex(),
            "stored_at": time.time(),
            BLOB: True,
            **(facts or {}),
        }
        revision = revision or new_revision()
        sealed = None if raw else self.pipeline.encode_file(ref, source, headers)
        if sealed is not None:
            source = Source(sealed)
        limit = _INLINE if self.blob_threshold is None else min(_INLINE, self.blob_threshold)
        if len(source.peek(limit + 1)) <= limit:
            payload = source.read(limit + 1)
            self._put_small(Record(ref, payload, {**headers, **_measured(source)}, revision), None, self._time())
        else:
            self._put_pointer(Record(ref, b"", headers, revision), source, None, {}, _measured)
        return source.size if sealed is None else sealed.plain_size

    def retrieve_blob(self, key: Key, name: str, *, kind: str = BLOB, raw: bool = False) -> BinaryIO:
        """Return a blob as a file to read from: once, from its beginning to its end. Close it, or use ``with``.

        Raises:
            NotFoundError, ExpiredError: there is none. An empty one is there.
            CorruptError: a part of it is not there, or the key that it needs is not. Reading raises this where the
                bytes are not those that were stored, before it gives out the last of them.
            ConflictError: raised by reading where the blob was replaced or deleted since it was retrieved, and its
                bytes are gone. Bytes of two blobs are never mixed.
        """
        for _ in range(READS):
            record = self.get(key, kind, name)
            if BLOB not in record.headers:
                raise StorageError(f"{record.ref} is no blob, but a value: retrieve it as one")
            parts = self._blob_parts(record)
            try:
                file = io.BufferedReader(Stream(next(parts, b""), parts), _BUFFER)
                return file if raw else self.pipeline.decode_file(record, file)
            except ConflictError:
                continue
        raise UnreachableError(f"others kept replacing {Ref(kind, key, name)} while it was being read, {READS} times")

    def has_blob(self, key: Key, name: str, *, kind: str = BLOB) -> bool:
        """Tell whether there is a blob of that name."""
        try:
            return BLOB in self.get(key, kind, name, payload=False).headers
        except LookupError:
            return False

    def delete_blob(self, key: Key, name: str, *, kind: str = BLOB) -> bool:
        """Delete a blob; tell whether there was one."""
        return self.delete(key, kind, name)

    def blobs(self, key: Key, *, kind: str = BLOB) -> list[Record]:
        """Return the heads of a key's blobs in the order of first storing; their headers have the ``size``."""
        query = Query(kinds=(kind,), flow_name=key.flow_name, task_name=key.task_name, task_id=key.task_id)
        return [record for record in self.records(query, payload=False) if BLOB in record.headers]

    def _blob_parts(self, record: Record) -> Generator[bytes, None, None]:
        size, digest = 0, hashlib.blake2b(digest_size=16)
        check_headers(record.headers, record.ref)
        expected = record.headers["size"], record.headers["digest"]
        parts = self._blob_content(record)
        try:
            while True:
                try:
                    part = next(parts, None)
                except NotFoundError as exc:
                    raise self._torn_blob(record) from exc
                except Exception as exc:
                    self._raise(exc)
                if part is not None:
                    digest.update(part)
                    size += len(part)
                # Before the last bytes are given out.
                if (part is None or size >= expected[0]) and (size, digest.hexdigest()) != expected:
                    raise CorruptError(f"the bytes of {record.ref} are not those that were stored")
                if part is None:
                    return
                yield part
        finally:
            parts.close()

    def _blob_content(self, record: Record) -> Generator[bytes, None, None]:
        content = content_of(record)
        if content is None:
            yield record.payload
        else:
            yield from self._read_content(record.ref, content["generation"], content["pieces"])

    def _torn_blob(self, record: Record) -> StorageError:
        """Return the error of a part that was not there."""
        current = self._reread_pointer(record.ref)
        if generation_of(current) == generation_of(record):
            return CorruptError(f"a part of {record.ref} is not there")
        return ConflictError(f"{record.ref} was replaced or deleted while it was being read", current)


def _measured(source: Source) -> dict[str, Any]:
    return {"size": source.size, "digest": source.digest}


def blob_facts(head: Record) -> dict[str, Any]:
    """Return the headers with which a copy of a blob is stored: all but those that tell of its bytes."""
    return {name: value for name, value in head.headers.items() if name not in (CONTENT, "size", "digest")}
