"""Records of a storage: read, stored and deleted, one at a time or in batches."""

from __future__ import annotations

from collections.abc import Sequence

from flowstore.errors import ConflictError, CorruptError, ExpiredError, NotFoundError
from flowstore.record import BLOB, RESULT, Key, Record, Ref
from flowstore.storage.listing import Listings
from flowstore.storage.payloads import CONTENT
from flowstore.storage.pointers import refuse_blob, without_content
from flowstore.storage.revisions import new_revision


class Records(Listings):
    """Read, store and delete records, whatever the size of their payloads."""

    # One record

    def get(self, key: Key, kind: str = RESULT, name: str = "", *, payload: bool = True) -> Record:
        """Return one record.

        Raises:
            NotFoundError, ExpiredError, CorruptError, UnreachableError
        """
        ref = Ref(kind, key, name)
        try:
            record = self._get(ref, payload)
        except Exception as exc:
            self._raise(exc)
        if record is None:
            raise NotFoundError(f"no {ref} is stored")
        headers = record.headers
        if headers.get("expires_at") is not None and record.has_expired(self._time()):
            raise ExpiredError(f"{ref} has expired")
        if record.ref is not ref:
            _check_ref(ref, record)
        if CONTENT not in headers:
            return record
        whole = self._whole_record(record) if payload else without_content(record)
        if whole is None:
            raise NotFoundError(f"no {ref} is stored")
        return whole

    def put(self, record: Record, *, if_revision: int | None = None, now: float | None = None) -> Record:
        """Store a record and return it with its new revision; the one given is not changed.

        Args:
            if_revision: ``None`` replaces an existing record; 0 stores only if no record exists; n replaces only
                revision n.
            now: the storage's time, if the caller knows it already.

        Raises:
            ConflictError: the condition does not hold; ``current`` is the existing record. A record with this one's
                token counts as stored: it was written by an earlier try whose answer was lost.
            ResultTooLargeError: it is a result larger than ``max_result_size``.
        """
        if BLOB in record.headers:
            refuse_blob(record)
        record = record.at(new_revision())
        if self._is_large(record):
            return self._put_large(record, if_revision)
        return self._put_small(record, if_revision, self._time() if now is None else now)

    def delete(self, key: Key, kind: str = RESULT, name: str = "", *, if_revision: int | None = None) -> bool:
        """Delete one record; return whether it was stored.

        Raises:
            ConflictError: the record is not at ``if_revision``; ``current`` is the record.
        """
        ref = Ref(kind, key, name)
        try:
            deleted = self._delete(ref, if_revision)
        except ConflictError as exc:
            raise self._whole_conflict(exc) from exc.__cause__
        except Exception as exc:
            self._raise(exc)
        if deleted:
            self._forget_small([ref])
            self._settle_content(ref)
        return deleted

    # Batches

    def get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Return several records in the order of their references; None for each that is missing or expired."""
        try:
            records = self._get_many(refs)
        except Exception as exc:
            self._raise(exc)
        now = self._time()
        live = [
            None if record is None or record.has_expired(now) else _check_ref(ref, record)
            for ref, record in zip(refs, records, strict=True)
        ]
        return [record and self._whole_record(record) for record in live]

    def put_many(self, records: Sequence[Record]) -> list[Record]:
        """Store several records, replacing existing ones, and return them with their new revisions.

        Each is stored as a whole or not at all. If an error is raised, some may have been stored; storing all of them
        again is harmless.

        Raises:
            ValueError: two of them have the same reference.
            ResultTooLargeError: one is a result larger than ``max_result_size``; nothing was stored.
        """
        self._check_batch(records)
        new = [record.at(new_revision()) for record in records]
        both = [(record, self._is_large(record)) for record in new]
        small = iter(self._put_many_small([record for record, is_large in both if not is_large]))
        return [self._put_large(record, None) if is_large else next(small) for record, is_large in both]

    def _put_many_small(self, records: Sequence[Record]) -> list[Record]:
        try:
            revisions = self._put_many(records, self.now())
        except Exception as exc:
            self._raise(exc)
        stored = [record.at(revision) for record, revision in zip(records, revisions, strict=True)]
        both = zip(records, stored, strict=True)
        self._settle_contents([one.ref for record, one in both if not self._replaced_small(record, one)])
        return stored

    def add_many(self, records: Sequence[Record], *, as_they_are: bool = False) -> list[Record | None]:
        """Store records that don't exist yet; return the existing record for each other, None for each stored.

        A record with the given one's token counts as stored. Otherwise as ``put_many``.

        Args:
            as_they_are: the records are copies and keep their revisions.
        """
        self._check_batch(records)
        new = [record if as_they_are and record.revision else record.at(new_revision()) for record in records]
        both = [(record, self._is_large(record)) for record in new]
        existing = self._add_small([record for record, is_large in both if not is_large])
        return [
            self._add_large(record) if is_large else _other_write(record, existing.get(record.ref))
            for record, is_large in both
        ]

    def _add_small(self, records: Sequence[Record]) -> dict[Ref, Record]:
        """Store records that don't exist yet; return those that do."""
        existing: dict[Ref, Record] = {}
        missing = list(records)
        while missing:
            try:
                added = self._add_many(missing, self.now())
            except Exception as exc:
                self._raise(exc)
            refused = [record for record, is_added in zip(missing, added, strict=True) if not is_added]
            if not refused:
                break
            found = self.get_many([record.ref for record in refused])
            # What was deleted, or has expired, since it refused the write can be stored now.
            missing = [record for record, current in zip(refused, found, strict=True) if current is None]
            existing |= {current.ref: current for current in found if current is not None}
        return existing

    def _add_large(self, record: Record) -> Record | None:
        try:
            self._put_large(record, 0)
        except ConflictError as exc:
            current: Record | None = exc.current
            return current
        return None

    def delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records; return how many were stored."""
        try:
            deleted = self._delete_many(refs)
        except Exception as exc:
            self._raise(exc)
        if deleted:
            self._forget_small(refs)
            self._settle_contents(refs)
        return deleted

    def delete_seen(self, records: Sequence[Record]) -> int:
        """Delete records that were read, at the revision that was read; return how many.

        What was replaced since then, or deleted and stored anew, stays.
        """
        try:
            deleted = self._delete_seen(records)
        except Exception as exc:
            self._raise(exc)
        if deleted:
            refs = [record.ref for record in records]
            self._forget_small(refs)
            self._settle_contents(refs)
        return deleted

    def _check_batch(self, records: Sequence[Record]) -> None:
        for record in records:
            refuse_blob(record)
        if len({record.ref.address for record in records}) < len(records):
            raise ValueError("two of the records have the same reference: which one should stay is not known")
        if self.max_result_size is not None:
            for record in records:
                self.check_size(record)


def _other_write(record: Record, existing: Record | None) -> Record | None:
    return None if existing is None or record.is_same_write(existing) else existing


def _check_ref(ref: Ref, record: Record) -> Record:
    # A client library that mixes up two answers, or a hash collision, must not return another task's result.
    if record.ref is not ref and record.ref != ref:
        raise CorruptError(f"asked for {ref}, the storage answered with {record.ref}")
    return record
