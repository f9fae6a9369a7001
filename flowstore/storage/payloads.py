"""Payloads too large for a record, stored out of line in pieces.

Every write has a generation, a random name that is never used twice. The bytes are stored first. Then the record that
names their generation replaces the older one in one atomic step. Then the bytes of the older generation are deleted. So
a reader finds the old bytes or the new ones, wherever a writer stops. ``remove_orphans`` finds what it left.

A note beside them, one record per owner, lists the generations that the owner has pointed to. Only these are deleted
when the owner is replaced or deleted: another writer may be about to point to any other.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowstore.errors import (
    ConflictError,
    FlowstoreError,
    NotFoundError,
    StorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.interrupts import is_interrupt
from flowstore.record import FORMAT, PIECE, Key, Record, Ref
from flowstore.record.headers import check_headers
from flowstore.storage.primitives import Primitives
from flowstore.storage.revisions import new_revision
from flowstore.storage.streams import Source

log = logging.getLogger(__name__)

CONTENT: Final = "content"
"""The header of a record whose payload is stored out of line: the pointer to it."""

PART: Final = 1 << 20
"""Bytes that are in memory at a time, and in one piece."""

GENERATIONS: Final = "generations"
_TRIES: Final = 100
_BATCH: Final = 500
NUMBER: Final = re.compile("[0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Content:
    """A payload out of line that was found in a storage.

    Attributes:
        generation: its name.
        written_at: when its last piece was written, by the storage's clock.
        owner: reads the head of the record that it was written for, whatever that points to now.
        delete: deletes it.
    """

    generation: str
    written_at: float
    owner: Callable[[], Record | None]
    delete: Callable[[], None]


class Payloads(Primitives):
    """Write, read and delete payloads out of line; each piece is a record.

    An adapter that keeps them elsewhere overrides the first three methods here, and ``_contents``.
    """

    # What an adapter may override

    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        """Write all bytes of a source; return the number of pieces.

        If it fails, nothing is left. Only if the server can't be reached, pieces may stay until ``remove_orphans``.
        """
        size = self._piece_size()
        number = 0
        try:
            while data := source.read(size):
                headers = {"format": FORMAT, "size": len(data), "stored_at": self.now(), "of": _names(ref)}
                self._put(Record(_piece(generation, number), data, headers, new_revision()), None, self.now())
                number += 1
        except BaseException as cause:
            # A silent server would be silent once more, for as long: the next cleanup deletes the pieces.
            if not self._is_outage(cause):
                try:
                    self._delete_content(ref, generation, number + 1)
                except Exception as exc:  # the error that ended the writing is the one to raise
                    if is_interrupt(exc):
                        raise
            raise
        return number

    def _is_outage(self, exc: BaseException) -> bool:
        if isinstance(exc, Exception) and not isinstance(exc, FlowstoreError) and not is_interrupt(exc):
            exc = self._translate(exc) or exc
        return isinstance(exc, UnreachableError)

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        """Yield the bytes of a payload, a part at a time.

        Raises:
            NotFoundError: a piece of it is missing.
        """
        for number in range(pieces):
            record = self._get(_piece(generation, number), True)
            if record is None:
                raise NotFoundError(f"piece {number} of {ref} is missing")
            yield record.payload

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        """Delete a payload, or the pieces that are left of it."""
        # In batches: the number of pieces comes from a header, which may be forged.
        for start in range(0, pieces, _BATCH):
            self._delete_many([_piece(generation, at) for at in range(start, min(start + _BATCH, pieces))])

    def _piece_size(self) -> int:
        """Return the size of a piece in bytes."""
        return PART

    # What was pointed to

    def _settle_content(self, ref: Ref, written: Mapping[str, int] | None = None) -> None:
        """Delete the payloads that a record pointed to earlier and doesn't point to now.

        The record itself has been written or deleted already, so a failure here is only logged.

        Args:
            written: generation and number of pieces of the payload that was just written for the record.
        """
        try:
            self._discard_contents(ref, written)
        except Exception as exc:
            self._leave_to_cleanup(exc, str(ref))

    def _leave_to_cleanup(self, exc: Exception, what: str) -> None:
        error = exc if isinstance(exc, StorageError) else None if is_interrupt(exc) else self._translate(exc)
        if error is None:
            raise exc
        log.warning("older payloads of %s are left to the next cleanup: %s", what, error)

    def _discard_contents(self, ref: Ref, written: Mapping[str, int] | None) -> None:
        for _ in range(_TRIES):
            note = self._get(note_of(ref), False)
            before = {} if note is None else noted(note)
            known = {**before, **(written or {})}
            if not known:
                return
            # Read after the note: a generation that is no longer pointed to never will be again.
            current = generation_of(self._get(ref, False))
            left = {generation: pieces for generation, pieces in known.items() if generation == current}
            for generation, pieces in known.items():
                if generation not in left:
                    self._delete_content(ref, generation, pieces)
            if note is not None and before == left:
                return
            if self._write_content_note(ref, note, left):
                return
        raise UnreachableError(f"others kept replacing {ref}, {_TRIES} times")

    def _write_content_note(self, ref: Ref, note: Record | None, generations: Mapping[str, int]) -> bool:
        """Replace or delete a note; return whether it was still the one that was read."""
        revision = None if note is None else note.revision
        headers = {"format": FORMAT, "stored_at": self.now(), "of": _names(ref), GENERATIONS: generations}
        try:
            return self._change_content_note(Record(note_of(ref), b"", headers), revision or 0, bool(generations))
        except UnsupportedError:
            # A database without conditions: of two changes at once, one is lost, and left to the cleanup.
            return self._change_content_note(Record(note_of(ref), b"", headers), None, bool(generations))

    def _change_content_note(self, note: Record, if_revision: int | None, keep: bool) -> bool:
        try:
            if keep:
                self._put(note.at(new_revision()), if_revision, self.now())
            elif if_revision != 0:
                self._delete(note.ref, if_revision)
        except ConflictError:
            return False
        return True


def new_generation() -> str:
    """Return the name of a new generation."""
    return os.urandom(16).hex()


def generation_of(record: Record | None) -> str | None:
    """Return the generation that a record points to, or None if its payload is in it."""
    content = None if record is None else content_of(record)
    return None if content is None else content["generation"]


def content_of(record: Record) -> Mapping[str, Any] | None:
    """Return the pointer in a record's headers, or None if its payload is in the record.

    Raises:
        CorruptError: the pointer is not one that flowstore writes. A generation always has the form of
            ``new_generation``, so that a forged one can't lead to other files.
    """
    content: Mapping[str, Any] | None = record.headers.get(CONTENT)
    if content is not None:
        check_headers({CONTENT: content}, record.ref)
    return content


def note_of(ref: Ref) -> Ref:
    """Return the reference of the note about a record's generations."""
    return Ref(PIECE, Key("", "", ref.address.hex()), GENERATIONS)


def _piece(generation: str, number: int) -> Ref:
    # Not under the owner's key, so that no listing by flow, run or task has to pass over pieces.
    return Ref(PIECE, Key("", "", generation), str(number))


def _names(ref: Ref) -> list[str]:
    return [ref.kind, ref.key.flow_name, ref.key.task_name, ref.key.task_id, ref.name]


def owner_of(record: Record) -> Ref:
    """Return the reference of the record that a piece or a note belongs to."""
    names: Any = record.headers.get("of")
    check_headers({"of": names}, record.ref)
    kind, flow_name, task_name, task_id, name = names
    return Ref(kind, Key(flow_name, task_name, task_id), name)


def noted(note: Record) -> Mapping[str, int]:
    """Return the generations in a note."""
    generations: Mapping[str, int] | None = note.headers.get(GENERATIONS)
    check_headers({GENERATIONS: generations}, note.ref)
    return generations or {}
