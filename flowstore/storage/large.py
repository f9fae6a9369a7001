"""Records with large payloads: the payload goes to a content by itself, and comes back with the record."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from flowstore.errors import ConflictError, CorruptError, NotFoundError, OutcomeUnknownError, UnreachableError
from flowstore.record import BLOB, RESULT, Damaged, Key, Page, Query, Record, Ref
from flowstore.record.damage import tell
from flowstore.storage.contents import CONTENT, Contents, content_of, generation_of, new_generation, note_of
from flowstore.storage.revisions import new_revision
from flowstore.storage.streams import Source

BYTES: Final = "application/octet-stream"
"""Content type of bytes that nothing is known about."""

_SMALL: Final = 64 * 1024
"""Every database can hold that many bytes."""

_KNOWN: Final = 4096

READS: Final = 20
"""How often something is read again that others keep replacing."""


class LargeRecords(Contents):
    """The operations on records, whatever the size of their payloads."""

    blob_threshold: int | None = 4 << 20
    """Payloads of more bytes become blobs; ``None`` for only those that the database can't hold. An entry's
    ``blob_threshold`` sets it."""

    def _largest_payload(self) -> int | None:
        """Return how many bytes the payload of one record can have in this database; ``None`` for any number."""
        return None

    def get(self, key: Key, kind: str = RESULT, name: str = "", *, payload: bool = True) -> Record:
        record = super().get(key, kind, name, payload=payload)
        if CONTENT not in record.headers:
            return record
        whole = self._whole_record(record) if payload else without_content(record)
        if whole is None:
            raise NotFoundError(f"no {record.ref} is stored")
        return whole

    def get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        return [record and self._whole_record(record) for record in super().get_many(refs)]

    def put(self, record: Record, *, if_revision: int | None = None) -> Record:
        _refuse_blob(record)
        put = self._put_large if self._is_large(record) else self._put_small
        return put(record.at(new_revision()), if_revision)

    def put_many(self, records: Sequence[Record]) -> list[Record]:
        for record in records:
            _refuse_blob(record)
        self._check_batch(records)
        new = [record.at(new_revision()) for record in records]
        if not any(map(self._is_large, new)):
            return self._put_many_small(new)
        stored = iter(self._put_many_small([record for record in new if not self._is_large(record)]))
        return [self._put_large(record, None) if self._is_large(record) else next(stored) for record in new]

    def _put_many_small(self, records: Sequence[Record]) -> list[Record]:
        stored = self._store_many(records)
        both = zip(records, stored, strict=True)
        self._settle_contents([one.ref for record, one in both if not self._replaced_small(record, one)])
        return stored

    def add_many(self, records: Sequence[Record], *, as_they_are: bool = False) -> list[Record | None]:
        for record in records:
            _refuse_blob(record)
        if not any(map(self._is_large, records)):
            return super().add_many(records, as_they_are=as_they_are)
        self._check_batch(records)
        small = [record for record in records if not self._is_large(record)]
        found = iter(super().add_many(small, as_they_are=as_they_are))
        return [
            self._add_large(record if as_they_are else record.at(new_revision()))
            if self._is_large(record)
            else next(found)
            for record in records
        ]

    def delete(self, key: Key, kind: str = RESULT, name: str = "", *, if_revision: int | None = None) -> bool:
        try:
            deleted = super().delete(key, kind, name, if_revision=if_revision)
        except ConflictError as exc:
            raise self._whole_conflict(exc) from exc.__cause__
        if deleted:
            ref = Ref(kind, key, name)
            self._small_revisions().pop(ref.address, None)
            self._settle_content(ref)
        return deleted

    def delete_many(self, refs: Sequence[Ref]) -> int:
        deleted = super().delete_many(refs)
        if deleted:
            for ref in refs:
                self._small_revisions().pop(ref.address, None)
            self._settle_contents(refs)
        return deleted

    def delete_seen(self, records: Sequence[Record]) -> int:
        deleted = super().delete_seen(records)
        if deleted:
            refs = [record.ref for record in records]
            for ref in refs:
                self._small_revisions().pop(ref.address, None)
            self._settle_contents(refs)
        return deleted

    def scan(self, query: Query, *, limit: int = 100, cursor: str | None = None, payload: bool = True) -> Page:
        page = super().scan(query, limit=limit, cursor=cursor, payload=payload)
        damaged = list(page.damaged)
        records = [one for record in page.records if (one := self._listed_record(record, payload, damaged))]
        return Page(records, page.cursor, damaged)

    def records(self, query: Query, *, payload: bool = True) -> Iterator[Record]:
        for record in super().records(query, payload=payload):
            if (listed := self._listed_record(record, payload, [])) is not None:
                yield listed

    def _is_large(self, record: Record) -> bool:
        size = len(record.payload)
        if self.blob_threshold is not None and size > self.blob_threshold:
            return True
        if size <= _SMALL:
            return False
        largest = self._largest_payload()
        return largest is not None and size > largest

    def _put_small(self, record: Record, if_revision: int | None) -> Record:
        try:
            stored = self._store(record, if_revision)
        except ConflictError as exc:
            raise self._whole_conflict(exc) from exc.__cause__
        if not self._replaced_small(record, stored):
            self._settle_content(record.ref)
        return stored

    def _replaced_small(self, given: Record, stored: Record) -> bool:
        """Tell whether a record has certainly replaced nothing, or a small one: the last that was stored from here.

        That saves looking for a content to delete.
        """
        known = self._small_revisions()
        if len(known) >= _KNOWN:
            known.clear()
        address = stored.ref.address
        before = known.get(address, 0)
        known[address] = stored.revision
        return stored.revision in (given.revision, before + 1)

    def _small_revisions(self) -> dict[bytes, int]:
        # Adapters need not call a constructor of this class. The dictionary's methods are atomic.
        known: dict[bytes, int] = self.__dict__.setdefault("_known_small", {})
        return known

    def _add_large(self, record: Record) -> Record | None:
        try:
            self._put_large(record, 0)
        except ConflictError as exc:
            current: Record | None = exc.current
            return current
        return None

    def _put_large(self, record: Record, if_revision: int | None) -> Record:
        self.check_size(record)
        # What the place says of JSON is for a payload that is there.
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
        """Write a content, then the record that points to it; then delete what that record replaced.

        Args:
            about: what the pointer says of its content besides.
            facts: further headers, known when the source has been read.
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
            stored = self._store(pointer, if_revision)
        except OutcomeUnknownError:
            raise  # the record may point to it
        except Exception as exc:
            # A note of it, which nothing points to, is all that it takes to have it deleted.
            self._settle_content(ref, {generation: pieces})
            if isinstance(exc, ConflictError):
                raise self._whole_conflict(exc) from exc.__cause__
            raise
        self._small_revisions().pop(ref.address, None)
        self._settle_content(ref, {generation: pieces})
        return stored

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

    def _listed_record(self, record: Record, payload: bool, damaged: list[Damaged]) -> Record | None:
        try:
            return self._whole_record(record) if payload else without_content(record)
        except CorruptError as exc:
            exc.ref = record.ref
            damaged.append(Damaged(exc))
            tell(exc)
            return None

    def _whole_record(self, record: Record) -> Record | None:
        """Return a record with its payload, or ``None`` if it has been deleted meanwhile."""
        current: Record | None = record
        for _ in range(READS):
            if current is None or not _is_away(current):
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
        if exc.current is None or not _is_away(exc.current):
            return exc
        return ConflictError(str(exc), self._whole_record(exc.current))


def without_content(record: Record) -> Record:
    """Return a record as it was given to be stored; a blob's stays as it is."""
    if not _is_away(record):
        return record
    headers = {name: value for name, value in record.headers.items() if name != CONTENT}
    content_type = record.headers[CONTENT]["content_type"]
    if content_type is None:
        headers.pop("content_type", None)
    else:
        headers["content_type"] = content_type
    return Record(record.ref, record.payload, headers, record.revision)


def _is_away(record: Record) -> bool:
    """Tell whether a payload is in a content; a blob's bytes are no payload."""
    content = content_of(record)
    return content is not None and "content_type" in content


def _refuse_blob(record: Record) -> None:
    if BLOB in record.headers:
        raise ValueError(f"{record.ref} is a blob: store it with store_blob, from what retrieve_blob gives")
