"""Comparing two storages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowstore.copying.copy import groups, head_pages
from flowstore.copying.integrity import blob_digest, is_intact, is_same_write
from flowstore.copying.results import Problem, ProblemHandler, add_counts, reraise_unreachable
from flowstore.errors import FlowstoreError
from flowstore.record import Query, Record, Ref
from flowstore.storage import RecordStorage


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The result of comparing two storages.

    Attributes:
        same: in both, from the same write, and their bytes match their digest.
        different: in both, but from different writes.
        missing: only in the source.
        extra: only in the target.
        corrupt: can't be read in one of them, or their bytes don't match their digest.
    """

    same: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    corrupt: int = 0

    @property
    def is_same(self) -> bool:
        return not (self.different or self.missing or self.extra or self.corrupt)

    @property
    def seen(self) -> int:
        """How many records of the source have been compared."""
        return self.same + self.different + self.missing + self.corrupt


def verify(
    source: RecordStorage,
    target: RecordStorage,
    query: Query | None = None,
    *,
    progress: Callable[[VerifyResult], None] | None = None,
    report: ProblemHandler | None = None,
) -> VerifyResult:
    """Compare all records and blobs of two storages.

    Each is read from both, and its bytes are compared with its digest. Nothing is changed. Revisions are not compared.

    Args:
        query: which records; by default all that have not expired.
        progress: called after each batch.
        report: called for each record that differs.

    Raises:
        StorageError: one of them can't be listed or reached.
    """
    comparison = _Comparison(source, target, report)
    for page in head_pages(source, query or Query()):
        for refs in groups(page.records):
            if isinstance(refs, Record):
                comparison.compare_blob(refs.ref)
            else:
                comparison.compare(refs)
            if progress is not None:
                progress(comparison.result)
    for page in head_pages(target, query or Query()):
        for refs in groups(page.records):
            comparison.look_for([refs.ref] if isinstance(refs, Record) else refs)
    return comparison.result


class _Comparison:
    def __init__(self, source: RecordStorage, target: RecordStorage, report: ProblemHandler | None) -> None:
        self._source = source
        self._target = target
        self._report = report
        self.result = VerifyResult()

    def compare(self, refs: list[Ref]) -> None:
        """Compare some records of the source with the target."""
        try:
            ours, theirs = self._source.get_many(refs), self._target.get_many(refs)
        except FlowstoreError as exc:
            reraise_unreachable(exc)
            if len(refs) > 1:
                for ref in refs:
                    self.compare([ref])
            else:
                self._found("corrupt", refs[0], str(exc))
            return
        for ref, one, other in zip(refs, ours, theirs, strict=True):
            if one is None:
                continue  # deleted since it was listed
            if other is None:
                self._found("missing", ref, "missing in the target")
            elif not is_intact(one) or not is_intact(other):
                self._found_damaged(ref, "target" if is_intact(one) else "source")
            elif is_same_write(one, other) and one.payload == other.payload:
                self._found("same", ref)
            else:
                self._found("different", ref, "the target has a different record")

    def compare_blob(self, ref: Ref) -> None:
        """Compare a blob of the source with the target."""
        try:
            one, other = self._source.get_many([ref])[0], self._target.get_many([ref])[0]
            if one is None:
                return
            if other is None:
                self._found("missing", ref, "missing in the target")
                return
            if not is_same_write(one, other):
                self._found("different", ref, "the target has a different record")
                return
            for storage, where in ((self._source, "source"), (self._target, "target")):
                if blob_digest(storage, ref) != one.headers["digest"]:
                    self._found_damaged(ref, where)
                    return
        except FlowstoreError as exc:
            reraise_unreachable(exc)
            self._found("corrupt", ref, str(exc))
        else:
            self._found("same", ref)

    def look_for(self, refs: list[Ref]) -> None:
        """Look up some records of the target in the source."""
        try:
            found = self._source.get_many(refs)
        except FlowstoreError as exc:
            reraise_unreachable(exc)
            for ref in refs if len(refs) > 1 else ():
                self.look_for([ref])
            return  # an unreadable record exists, and has been reported
        for ref, record in zip(refs, found, strict=True):
            if record is None:
                self._found("extra", ref, "missing in the source")

    def _found_damaged(self, ref: Ref, where: str) -> None:
        self._found("corrupt", ref, f"its bytes in the {where} do not match its digest")

    def _found(self, what: str, ref: Ref, message: str | None = None) -> None:
        self.result = add_counts(self.result, **{what: 1})
        if message is not None and self._report is not None:
            self._report(Problem(ref, message))
