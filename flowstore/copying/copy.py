"""Copying records from one storage to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from flowstore.copying.journal import Journal
from flowstore.copying.outcome import PAGE, CopyResult, OnConflict, Report, damage_failing, refuse_unreachable
from flowstore.copying.writer import Writer
from flowstore.errors import FlowstoreError, NotFoundError
from flowstore.record import BLOB, PIECE, Page, Query, Record, Ref, pages
from flowstore.storage import RecordStorage

_BATCH: Final = 8 << 20  # bytes of payloads that are in memory at a time; a larger one is by itself
_LIKELY: Final = 1024  # bytes of a payload whose headers don't tell

Progress = Callable[[CopyResult], None]


def copy(
    source: RecordStorage,
    target: RecordStorage,
    query: Query | None = None,
    *,
    on_conflict: OnConflict = "keep",
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> CopyResult:
    """Copy records with their headers, tokens and revisions, and blobs.

    Each is read again from the target and compared. One that fails is counted and reported, and the rest is copied. Run
    again, what has arrived is skipped: a copy that was killed is completed in this way. What is stored in the source
    while this runs may be copied or not; run it again when nobody stores there any more.

    Args:
        query: which records; all that have not expired, if left out.
        on_conflict: what to do where the target has something else: keep it, replace it, or let the one that was stored
            later stay.
        resume: the path of a journal, which saves comparing what has been copied: created, brought up to date after
            each page, and removed at the end. Where there is one, the copy goes on after the pages that it tells of.
        progress: called after each batch.
        report: called for each conflict and failure.

    Returns:
        The numbers, those of the pages that a journal tells of included.

    Raises:
        StorageError: the source can't be listed, or one of the storages can't be reached.
        ValueError: the journal belongs to another copy.
    """
    query = query or Query()
    writer = Writer(target, on_conflict, report)
    journal = None if resume is None else Journal(resume, query, on_conflict)
    cursor: str | None = None
    if journal is not None:
        cursor, writer.result = journal.read()
    with damage_failing(writer.fail, report):
        for page in head_pages(source, query, cursor):
            for records in batches(source, page.records, writer):
                writer.write(records)
                if progress is not None:
                    progress(writer.result)
            if journal is not None and page.cursor is not None:
                journal.write(page.cursor, writer.result)
    if journal is not None:
        journal.remove()
    return writer.result


def batches(source: RecordStorage, heads: Iterable[Record], writer: Writer) -> Iterator[list[Record]]:
    """Yield the records of some heads, as many at a time as memory allows; blobs are written on the way."""
    for refs in groups(heads):
        if isinstance(refs, Record):
            _copy_blob(source, refs, writer)
            yield []
        else:
            yield _read(source, refs, writer)


def head_pages(storage: RecordStorage, query: Query, cursor: str | None = None) -> Iterator[Page]:
    """Iterate over the pages of what a query selects, without payloads."""
    return pages(lambda at: storage.scan(query, limit=PAGE, cursor=at, payload=False), cursor)


def groups(heads: Iterable[Record]) -> Iterator[list[Ref] | Record]:
    """Yield references of records to be read together, or the head of a blob, without what belongs to others."""
    refs: list[Ref] = []
    room = _BATCH
    for head in heads:
        if head.kind == PIECE:
            continue  # of a record or a blob that is read as a whole
        is_blob = BLOB in head.headers
        size = head.headers.get("size", _LIKELY)
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
    """Read records without those that have been deleted; one that can't be read does not stop the others."""
    try:
        return [record for record in source.get_many(refs) if record is not None]
    except FlowstoreError as exc:
        refuse_unreachable(exc)
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
        refuse_unreachable(exc)
        writer.fail(ref, exc)
        return
    with file:
        writer.write_blob(head, file)
