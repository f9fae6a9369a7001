"""Blobs: files of any size, streamed in and out."""

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
    """Store, retrieve and delete blobs.

    A blob has a key and a name; its bytes are stored as they are, or encrypted. ``raw`` passes the stored bytes on
    unchanged, encrypted or not, so that they can be copied with their headers.
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

        The blob is read and sent in chunks, and stored as a whole or not at all. Readers of the older blob get it
        whole or get an error, never a mix.

        Args:
            file: bytes, or a file opened in binary mode, read from its current position to its end; it is not closed.
            facts: additional headers of its record, JSON-serializable.
            revision: for a copy, its revision if nothing is stored; by default a new one.

        Raises:
            TypeError: ``file`` is neither.
            StorageError: the blob could not be stored; the older one is still there.
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
        """Return a blob as a file that can be read once.

        Close it, or use ``with``.

        Raises:
            NotFoundError, ExpiredError: no blob is stored. An empty blob is one.
            CorruptError: a chunk or the encryption key is missing. Reading raises this if the bytes don't match their
                digest, before it returns the last of them.
            ConflictError: raised by reading if the blob was replaced or deleted since it was retrieved, and its bytes
                are gone. Bytes of two blobs are never mixed.
        """
        for _ in range(READS):
            record = self.get(key, kind, name)
            if BLOB not in record.headers:
                raise StorageError(f"{record.ref} is not a blob, but a value: retrieve it as one")
            parts = self._blob_parts(record)
            try:
                file = io.BufferedReader(Stream(next(parts, b""), parts), _BUFFER)
                return file if raw else self.pipeline.decode_file(record, file)
            except ConflictError:
                continue
        raise UnreachableError(f"{Ref(kind, key, name)} was replaced {READS} times while it was being read")

    def has_blob(self, key: Key, name: str, *, kind: str = BLOB) -> bool:
        """Return whether a blob of this name is stored."""
        try:
            return BLOB in self.get(key, kind, name, payload=False).headers
        except LookupError:
            return False

    def delete_blob(self, key: Key, name: str, *, kind: str = BLOB) -> bool:
        """Delete a blob; return whether it existed."""
        return self.delete(key, kind, name)

    def blobs(self, key: Key, *, kind: str = BLOB) -> list[Record]:
        """Return the records of a key's blobs, without their bytes.

        In the order of first storing; the headers have the ``size``.
        """
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
                # Before the last bytes are returned.
                if (part is None or size >= expected[0]) and (size, digest.hexdigest()) != expected:
                    raise CorruptError(f"the bytes of {record.ref} do not match their digest")
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
        """Return the error for a missing chunk."""
        current = self._reread_pointer(record.ref)
        if generation_of(current) == generation_of(record):
            return CorruptError(f"a chunk of {record.ref} is missing")
        return ConflictError(f"{record.ref} was replaced or deleted while it was being read", current)


def _measured(source: Source) -> dict[str, Any]:
    return {"size": source.size, "digest": source.digest}


def blob_facts(head: Record) -> dict[str, Any]:
    """Return the headers for copying a blob: all but those about its bytes."""
    return {name: value for name, value in head.headers.items() if name not in (CONTENT, "size", "digest")}
