"""Records that point to payloads out of line: writing them, and reading both as one record."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final

from flowstore.errors import (
    ConflictError,
    CorruptError,
    NotFoundError,
    OutcomeUnknownError,
    ResultTooLargeError,
    UnreachableError,
)
from flowstore.record import BLOB, RESULT, Damaged, Record, Ref
from flowstore.record.damage import report_damage
from flowstore.storage.payloads import CONTENT, Payloads, content_of, generation_of, new_generation, note_of
from flowstore.storage.streams import Source

BYTES: Final = "application/octet-stream"
"""The content type of bytes that nothing is known about."""

_SMALL: Final = 64 * 1024
"""Every database can hold a payload of that many bytes in a record."""

_KNOWN: Final = 4096

READS: Final = 20
"""How often a record is read again if others keep replacing it."""


class Pointers(Payloads):
    """Store a large payload out of line and a record that points to it; load both together."""

    blob_threshold: int | None = 4 << 20
    """Larger payloads, in bytes, are stored out of line; ``None``: only those that the database can't hold in a record.

    Set from ``blob_threshold`` of the storage's entry.
    """

    max_result_size: int | None = None
    """The largest payload of a result, in bytes. Set from ``max_result_size`` of the storage's entry."""

    def _largest_payload(self) -> int | None:
        """Return how many bytes the database can hold as payload of one record; ``None`` for any number."""
        return None

    def check_size(self, record: Record) -> None:
        """Raise ResultTooLargeError if a result is larger than ``max_result_size``."""
        size, limit = len(record.payload), self.max_result_size
        if limit is not None and size > limit and record.kind == RESULT:
            raise ResultTooLargeError(
                f"{record.ref} takes {size} bytes; max_result_size of its storage is {limit}: nothing was stored"
            )

    def _is_large(self, record: Record) -> bool:
        size = len(record.payload)
        if self.blob_threshold is not None and size > self.blob_threshold:
            return True
        if size <= _SMALL:
            return False
        largest = self._largest_payload()
        return largest is not None and size > largest

    # Writing

    def _put_large(self, record: Record, if_revision: int | None) -> Record:
        self.check_size(record)
        # The pointer has no payload, so its content type must not promise JSON.
        about = {"content_type": record.headers.get("content_type")}
        pointer = Record(record.ref, b"", {**record.headers, "content_type": BYTES}, record.revision)
        stored = self._put_pointer(pointer, Source(record.payload), if_revision, about, lambda _: {})
        return record.at(stored.revision)

    def _put_pointer(
        self,
        pointer: Record,
        source: Source,
        if_revision: int | None,
        about: dict[str, Any],
        facts: Callable[[Source], dict[str, Any]],
    ) -> Record:
        """Write a payload, then the record that points to it; then delete what that record replaced.

        Args:
            about: what the pointer says of its payload besides.
            facts: returns further headers, after the source was read.
        """
        ref, generation = pointer.ref, new_generation()
        try:
            pieces = self._write_content(ref, generation, source)
        except Exception as exc:
            if exc is source.failure:
                raise
            self._raise(exc)
        content = {"generation": generation, "pieces": pieces, "size": source.size, **about}
        pointer = Record(ref, b"", {**pointer.headers, **facts(source), CONTENT: content}, pointer.revision)
        try:
            stored = pointer.at(self._put(pointer, if_revision, self.now()))
        except Exception as exc:
            try:
                stored = self._stored_earlier(pointer, exc)
            except OutcomeUnknownError:
                raise  # the record may point to it
            except Exception:
                # A note of a generation that no record points to is all it takes to have it deleted.
                self._settle_content(ref, {generation: pieces})
                raise
        self._forget_small([ref])
        self._settle_content(ref, {generation: pieces})
        return stored

    def _put_small(self, record: Record, if_revision: int | None, now: float) -> Record:
        """Write a record with its payload; then delete the payload out of line that it may have replaced."""
        if self.max_result_size is not None:
            self.check_size(record)
        try:
            stored = record.at(self._put(record, if_revision, now))
        except Exception as exc:
            stored = self._stored_earlier(record, exc)
        if not self._replaced_small(record, stored):
            self._settle_content(record.ref)
        return stored

    def _stored_earlier(self, record: Record, exc: Exception) -> Record:
        """Return a record that an earlier try has stored, whose answer was lost; else raise why it isn't stored."""
        if not isinstance(exc, ConflictError):
            self._raise(exc)
        if exc.current is not None and record.is_same_write(exc.current):
            return record.at(exc.current.revision)
        raise self._whole_conflict(exc) from exc.__cause__

    def _replaced_small(self, given: Record, stored: Record) -> bool:
        """Return True if the write can't have orphaned a payload out of line.

        That is so if it replaced nothing, or the record with its payload that was stored from here before. It saves
        reading the note.
        """
        known = self._small_revisions()
        if len(known) >= _KNOWN:
            known.clear()
        address = stored.ref.address
        before = known.get(address, 0)
        known[address] = stored.revision
        return stored.revision in (given.revision, before + 1)

    def _forget_small(self, refs: Sequence[Ref]) -> None:
        known = self._small_revisions()
        for ref in refs:
            known.pop(ref.address, None)

    def _small_revisions(self) -> dict[bytes, int]:
        # Adapters need not call a constructor of this class. The dictionary's methods are atomic.
        known: dict[bytes, int] = self.__dict__.setdefault("_known_small", {})
        return known

    def _settle_contents(self, refs: Sequence[Ref]) -> None:
        if not refs:
            return
        try:
            notes = self._get_many([note_of(ref) for ref in refs])
        except Exception as exc:
            self._leave_to_cleanup(exc, f"{len(refs)} records")
            return
        for ref, note in zip(refs, notes, strict=True):
            if note is not None:
                self._settle_content(ref)

    # Reading

    def _listed_record(self, record: Record, payload: bool, damaged: list[Damaged]) -> Record | None:
        try:
            return self._whole_record(record) if payload else without_content(record)
        except CorruptError as exc:
            exc.ref = record.ref
            damaged.append(Damaged(exc))
            report_damage(exc)
            return None

    def _whole_record(self, record: Record) -> Record | None:
        """Return a record with its payload; return None if it was deleted meanwhile."""
        current: Record | None = record
        for _ in range(READS):
            if current is None or not _is_out_of_line(current):
                return current
            try:
                return self._load_content(current)
            except NotFoundError as exc:
                generation = generation_of(current)
                current = self._reread_pointer(record.ref)
                if generation_of(current) == generation:
                    raise CorruptError(f"the payload of {record.ref} is not there: {exc}") from exc
        raise UnreachableError(f"others kept replacing {record.ref} while it was being read, {READS} times")

    def _load_content(self, record: Record) -> Record:
        content = content_of(record) or {}
        size, payload = content["size"], io.BytesIO()
        try:
            with closing(self._read_content(record.ref, content["generation"], content["pieces"])) as parts:
                for part in parts:
                    payload.write(part)
                    if payload.tell() > size:
                        break
        except Exception as exc:
            self._raise(exc)
        if payload.tell() != size:
            found = "more" if payload.tell() > size else f"{payload.tell()} bytes"
            raise CorruptError(f"the payload of {record.ref} has {found} instead of {size} bytes")
        return Record(record.ref, payload.getvalue(), without_content(record).headers, record.revision)

    def _reread_pointer(self, ref: Ref) -> Record | None:
        try:
            return self._get(ref, True)
        except Exception as exc:
            self._raise(exc)

    def _whole_conflict(self, exc: ConflictError) -> ConflictError:
        """Return a conflict whose current record has its payload."""
        if exc.current is None or not _is_out_of_line(exc.current):
            return exc
        return ConflictError(str(exc), self._whole_record(exc.current))


def without_content(record: Record) -> Record:
    """Return a record as it was given to be stored, without the pointer; a blob's record stays as it is."""
    if not _is_out_of_line(record):
        return record
    headers = {name: value for name, value in record.headers.items() if name != CONTENT}
    content_type = record.headers[CONTENT]["content_type"]
    if content_type is None:
        headers.pop("content_type", None)
    else:
        headers["content_type"] = content_type
    return Record(record.ref, record.payload, headers, record.revision)


def _is_out_of_line(record: Record) -> bool:
    """Return whether a record's payload is stored out of line; the bytes of a blob are not its payload."""
    content = content_of(record)
    return content is not None and "content_type" in content


def refuse_blob(record: Record) -> None:
    """Raise ValueError if a record is a blob's: only ``store_blob`` stores the bytes with it."""
    if BLOB in record.headers:
        raise ValueError(f"{record.ref} is a blob: store it with store_blob, from what retrieve_blob returns")
