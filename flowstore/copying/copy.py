"""Copying records from one storage to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from flowstore.copying.results import (
    PAGE,
    CopyResult,
    OnConflict,
    ProblemHandler,
    damage_as_failure,
    reraise_unreachable,
)
from flowstore.copying.resume import ResumeFile
from flowstore.copying.writer import Writer
from flowstore.errors import FlowstoreError, NotFoundError
from flowstore.record import BLOB, PIECE, Page, Query, Record, Ref, pages
from flowstore.storage import RecordStorage

_BATCH: Final = 8 << 20  # bytes of payloads in memory at a time; a larger payload is a batch by itself
_DEFAULT_SIZE: Final = 1024  # of a payload whose headers don't name its size

Progress = Callable[[CopyResult], None]


def copy(
    source: RecordStorage,
    target: RecordStorage,
    query: Query | None = None,
    *,
    on_conflict: OnConflict = "keep",
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    report: ProblemHandler | None = None,
) -> CopyResult:
    """Copy records with their headers, tokens and revisions, and blobs.

    Each record is read back from the target and compared. Failures are counted and reported, and the other records are
    copied. Running a copy again skips what has already arrived, so a copy that was killed can be completed. Records
    stored in the source meanwhile may be copied or not; run the copy again when no other process writes there.

    Args:
        query: which records; by default all that have not expired.
        on_conflict: if the target has a different record, keep it, replace it, or keep the newer one.
        resume: the path of a resume file, which saves comparing what has already been copied. It is created, updated
            after each page, and removed at the end. If it exists, the copy continues after its last page.
        progress: called after each batch.
        report: called for each conflict and failure.

    Returns:
        The counts, including those in the resume file.

    Raises:
        StorageError: the source can't be listed, or one of the storages can't be reached.
        ValueError: the resume file belongs to another copy.
    """
    query = query or Query()
    writer = Writer(target, on_conflict, report)
    state = None if resume is None else ResumeFile(resume, query, on_conflict)
    cursor: str | None = None
    if state is not None:
        cursor, writer.result = state.read()
    with damage_as_failure(writer.fail, report):
        for page in head_pages(source, query, cursor):
            for records in batches(source, page.records, writer):
                writer.write(records)
                if progress is not None:
                    progress(writer.result)
            if state is not None and page.cursor is not None:
                state.write(page.cursor, writer.result)
    if state is not None:
        state.remove()
    return writer.result


def batches(source: RecordStorage, heads: Iterable[Record], writer: Writer) -> Iterator[list[Record]]:
    """Yield the records of some heads in batches; write blobs right away."""
    for refs in groups(heads):
        if isinstance(refs, Record):
            _copy_blob(source, refs, writer)
            yield []
        else:
            yield _read(source, refs, writer)


def head_pages(storage: RecordStorage, query: Query, cursor: str | None = None) -> Iterator[Page]:
    """Iterate over the pages that a query selects, without payloads."""
    return pages(lambda at: storage.scan(query, limit=PAGE, cursor=at, payload=False), cursor)


def groups(heads: Iterable[Record]) -> Iterator[list[Ref] | Record]:
    """Yield references of records to read together, or the head of a blob.

    Chunks of blobs and large values are left out.
    """
    refs: list[Ref] = []
    room = _BATCH
    for head in heads:
        if head.kind == PIECE:
            continue  # read with the record or blob that it belongs to
        is_blob = BLOB in head.headers
        size = head.headers.get("size", _DEFAULT_SIZE)
        if refs and (is_blob or size > room):
            yield refs
            refs, room = [], _BATCH
        if is_blob:
            yield head
            continue
        refs.append(head.ref)
        room -= size
    if refs:
        yield refs


def _read(source: RecordStorage, refs: list[Ref], writer: Writer) -> list[Record]:
    """Read records, without those deleted meanwhile.

    Records that can't be read are counted as failed.
    """
    try:
        return [record for record in source.get_many(refs) if record is not None]
    except FlowstoreError as exc:
        reraise_unreachable(exc)
        if len(refs) > 1:
            return [record for ref in refs for record in _read(source, [ref], writer)]
        writer.fail(refs[0], exc)
        return []


def _copy_blob(source: RecordStorage, head: Record, writer: Writer) -> None:
    ref = head.ref
    try:
        file = source.retrieve_blob(ref.key, ref.name, kind=ref.kind, raw=True)
    except NotFoundError:
        return  # deleted since it was listed
    except FlowstoreError as exc:
        reraise_unreachable(exc)
        writer.fail(ref, exc)
        return
    with file:
        writer.write_blob(head, file)
