"""Writing copied records to a storage."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from flowstore.copying.integrity import blob_digest, is_intact, is_same_write
from flowstore.copying.results import (
    CopyResult,
    OnConflict,
    Problem,
    ProblemHandler,
    add_counts,
    reraise_unreachable,
)
from flowstore.errors import ConflictError, FlowstoreError, StorageError
from flowstore.record import Record, Ref
from flowstore.storage import Readable, RecordStorage, blob_facts

_MAX_REWRITES: Final = 10_000
"""How often a record is rewritten to reach its revision."""


class Writer:
    """Write records to a storage and verify them.

    Records that are already there are left unchanged. A record that fails is counted and reported, and the others are
    written. If the storage is unreachable, ``UnreachableError`` is raised.
    """

    def __init__(self, target: RecordStorage, on_conflict: OnConflict, report: ProblemHandler | None = None) -> None:
        self._target = target
        self._on_conflict = on_conflict
        self._report = report
        self.result = CopyResult()

    def write(self, records: list[Record]) -> None:
        """Write some records."""
        whole = [record for record in records if self._check_bytes(record)]
        standing = self._target.get_many([record.ref for record in whole])
        missing = [record for record, current in zip(whole, standing, strict=True) if current is None]
        found = zip(whole, standing, strict=True)
        written = [record for record, current in found if current is not None and self._replace(record, current)]
        # A batch stores large payloads after the others, which would change the order of first storing.
        for _, some in groupby(missing, self._is_large):
            written += self._add(list(some))
        arrived = self._target.get_many([record.ref for record in written])
        for record, stored in zip(written, arrived, strict=True):
            if stored is None or not is_same_write(record, stored) or stored.payload != record.payload:
                self.fail(record.ref, "the target returns something else than was written")
            else:
                self._count(copied=1)

    def write_blob(self, head: Record, file: Readable) -> None:
        """Write a blob as a stream, unless it is already there.

        Args:
            head: its record in the source.
        """
        ref = head.ref
        try:
            current = self._target.get_many([ref])[0]
            if current is not None and not self._is_due(head, current):
                return
            self._target.store_blob(
                ref.key, ref.name, file, kind=ref.kind, facts=blob_facts(head), raw=True, revision=head.revision
            )
            if blob_digest(self._target, ref) != head.headers["digest"]:
                raise StorageError("its bytes do not match its digest")
        except FlowstoreError as exc:
            reraise_unreachable(exc)
            self.fail(ref, exc)
        else:
            self._count(copied=1)

    def fail(self, ref: Ref | None, why: object) -> None:
        """Count and report a record that could not be copied."""
        self._count(failed=1)
        self._report_problem(ref, str(why))

    def _is_large(self, record: Record) -> bool:
        threshold = self._target.blob_threshold
        return threshold is not None and len(record.payload) > threshold

    def _check_bytes(self, record: Record) -> bool:
        if is_intact(record):
            return True
        self.fail(record.ref, "its bytes in the source do not match its digest")
        return False

    def _add(self, records: list[Record]) -> list[Record]:
        """Write new records; return those that were written."""
        try:
            standing = self._target.add_many(records, as_they_are=True)
        except FlowstoreError as exc:
            reraise_unreachable(exc)
            if len(records) > 1:
                return [written for record in records for written in self._add([record])]
            self.fail(records[0].ref, exc)
            return []
        written = []
        for record, current in zip(records, standing, strict=True):
            written += [record] if current is None or self._replace(record, current) else []
        return written

    def _replace(self, record: Record, current: Record) -> bool:
        """Replace the stored record if needed; return whether it was written."""
        if not self._is_due(record, current):
            return False
        return self._put(record, current.revision) and self._reach(record, current.revision + 1)

    def _is_due(self, record: Record, current: Record) -> bool:
        """Return whether the stored record has to be replaced; count it if not."""
        if is_same_write(record, current):
            # An earlier copy was killed before the revision was reached. Not for blobs: each rewrite sends all bytes.
            if 0 < record.revision - current.revision <= _MAX_REWRITES and record.payload:
                return True
            self._count(skipped=1)
            return False
        newer = self._on_conflict == "newer" and record.stored_at > current.stored_at
        replace = self._on_conflict == "replace" or newer
        self._count(conflicts=1, skipped=0 if replace else 1)
        self._report_problem(record.ref, f"the target has a different record: {'replaced' if replace else 'kept'}")
        return replace

    def _reach(self, record: Record, revision: int) -> bool:
        """Rewrite a record until it has its revision; return whether it has.

        With a lower revision, a stale writer could win. Revisions that are far apart belong to records that were stored
        anew in one of the storages, and share no revision; these are left as they are.
        """
        if record.revision - revision > _MAX_REWRITES:
            return True
        while revision < record.revision:
            if not self._put(record, revision):
                return False
            revision += 1
        return True

    def _put(self, record: Record, revision: int) -> bool:
        try:
            self._target.put(record, if_revision=revision)
        except ConflictError:
            self._count(conflicts=1)
            self.fail(record.ref, "another process stored it meanwhile")
            return False
        except FlowstoreError as exc:
            reraise_unreachable(exc)
            self.fail(record.ref, exc)
            return False
        return True

    def _report_problem(self, ref: Ref | None, message: str) -> None:
        if self._report is not None:
            self._report(Problem(ref, message))

    def _count(self, **more: int) -> None:
        self.result = add_counts(self.result, **more)
