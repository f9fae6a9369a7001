"""Exporting records to a JSON Lines file, and importing them.

The first line names the format, the last one has the number of lines and their digest, so that a truncated file is
recognized. docs/copy.md describes each line.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final

from flowstore.copying.copy import groups, head_pages
from flowstore.copying.integrity import is_intact
from flowstore.copying.jsonl import BlobReader, LineReader, LineWriter, to_base64
from flowstore.copying.results import (
    PAGE,
    CopyResult,
    OnConflict,
    Problem,
    ProblemHandler,
    add_counts,
    damage_as_failure,
)
from flowstore.copying.writer import Writer
from flowstore.errors import CorruptError, NotFoundError
from flowstore.record import BLOB, PIECE, Key, Query, Record, Ref
from flowstore.record.headers import mistake_in
from flowstore.storage import PART, RecordStorage
from flowstore.storage.revisions import LATEST

_BATCH: Final = 8 << 20
_INTERNAL: Final = ("content", "generations")
"""Headers by which a storage finds payloads that it stores out of line."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The number of exported records, of blobs among them, and of failures."""

    records: int = 0
    blobs: int = 0
    failed: int = 0


def export_records(
    source: RecordStorage,
    file: IO[bytes],
    query: Query | None = None,
    *,
    progress: Callable[[Exported], None] | None = None,
    report: ProblemHandler | None = None,
) -> Exported:
    """Write records and blobs to a file, a page at a time.

    Records that can't be read, or whose bytes don't match their digest, are left out, counted and reported. If a blob
    fails after its first part was written, that part stays in the file; an import refuses it.

    Args:
        file: opened for writing in binary mode; see ``open_export`` for compressed files.
        query: which records; by default all that have not expired.
        report: called for each record that is left out.

    Raises:
        StorageError: the source can't be listed or reached. The file is incomplete.
    """
    export = _Export(source, LineWriter(file), report)
    with damage_as_failure(export.fail, report):
        for page in head_pages(source, query or Query()):
            for refs in groups(page.records):
                if isinstance(refs, Record):
                    export.blob(refs)
                else:
                    export.records(refs)
                if progress is not None:
                    progress(export.done)
    export.end()
    return export.done


class _Export:
    def __init__(self, source: RecordStorage, lines: LineWriter, report: ProblemHandler | None) -> None:
        self._source = source
        self._lines = lines
        self._report = report
        self.done = Exported()

    def records(self, refs: list[Ref]) -> None:
        """Write some records."""
        try:
            records = self._source.get_many(refs)
        except CorruptError as exc:
            if len(refs) == 1:
                self.fail(refs[0], exc)
                return
            for ref in refs:
                self.records([ref])
            return
        for record in records:
            if record is None:
                continue  # deleted since it was listed
            if is_intact(record):
                self._lines.write({**_facts(record), **_content(record)})
                self.done = add_counts(self.done, records=1)
            else:
                self.fail(record.ref, "its payload does not match its digest")

    def blob(self, head: Record) -> None:
        """Write a blob."""
        ref, begun = head.ref, False
        try:
            with self._source.retrieve_blob(ref.key, ref.name, kind=ref.kind, raw=True) as file:
                while (part := file.read(PART)) or not begun:
                    if not begun:
                        self._lines.write(_facts(head))
                        begun = True
                    if part:
                        self._lines.write({"part": to_base64(part)})
        except NotFoundError:
            return  # deleted since it was listed
        except CorruptError as exc:
            self.fail(ref, exc)
            if begun:
                self._lines.write({"part": None})
            return
        self._lines.write({"part": None})
        self.done = add_counts(self.done, records=1, blobs=1)

    def fail(self, ref: Ref | None, why: object) -> None:
        """Count and report a record that is left out."""
        self.done = add_counts(self.done, failed=1)
        if self._report is not None:
            self._report(Problem(ref, str(why)))

    def end(self) -> None:
        """Write the last line."""
        self._lines.end({"records": self.done.records, "blobs": self.done.blobs})


def import_records(
    file: IO[bytes],
    target: RecordStorage,
    *,
    on_conflict: OnConflict = "keep",
    progress: Callable[[CopyResult], None] | None = None,
    report: ProblemHandler | None = None,
) -> CopyResult:
    """Write the records and blobs of a file to a storage.

    As with ``copy``, running it again skips what has already arrived. Records with a kind or headers that are never
    exported count as failed, and are reported with their line number.

    Args:
        file: opened for reading in binary mode; see ``open_export`` for compressed files.
        on_conflict, progress, report: as for ``copy``.

    Raises:
        CorruptError: the file is not an export, is truncated, or was changed. The lines before are imported.
        UnsupportedError: the file was written by a newer version of flowstore.
        StorageError: the target can't be reached.
    """
    writer = Writer(target, on_conflict, report)
    batch: list[Record] = []
    room = _BATCH

    def flush() -> None:
        writer.write(batch)
        batch.clear()
        if progress is not None:
            progress(writer.result)

    lines = LineReader(file)
    for line in lines:
        number = lines.number
        head = _record(line, number)
        mistake = _mistake(head)
        if mistake is not None:
            writer.fail(head.ref, f"line {number}: {mistake}")
        if BLOB in head.headers:
            flush()
            blob = BlobReader(lines)
            if mistake is None:
                writer.write_blob(head, io.BufferedReader(blob))
            blob.skip()
            continue
        if mistake is not None:
            continue
        batch.append(head)
        room -= len(head.payload)
        if room < 0 or len(batch) == PAGE:
            flush()
            room = _BATCH
    flush()
    return writer.result


def _content(record: Record) -> dict[str, Any]:
    payload = _text(record.payload) if record.is_json else None
    return {"base64": to_base64(record.payload)} if payload is None else {"payload": payload}


def _facts(record: Record) -> dict[str, Any]:
    key = record.key
    headers = dict(record.headers)
    if BLOB in headers:
        headers.pop("content", None)
    return {
        "kind": record.ref.kind,
        "flow": key.flow_name,
        "task": key.task_name,
        "id": key.task_id,
        "name": record.ref.name,
        "revision": record.revision,
        "headers": headers,
    }


def _mistake(record: Record) -> str | None:
    """Return why a record can't come from an export, or None.

    Such records could point to data of other records.
    """
    if record.kind == PIECE:
        return f"records of the kind {PIECE!r} are never exported"
    for name in _INTERNAL:
        if name in record.headers:
            return f"the header {name!r} is never exported"
    if not 1 <= record.revision <= LATEST:
        return f"{record.revision} is not a revision"
    return mistake_in(record.headers)


def _record(line: dict[str, Any], number: int) -> Record:
    try:
        ref = Ref(line["kind"], Key(line["flow"], line["task"], line["id"]), line["name"])
        revision, headers = line["revision"], line["headers"]
        payload = (
            line["payload"].encode() if "payload" in line else base64.b64decode(line.get("base64", ""), validate=True)
        )
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise CorruptError(f"line {number} of the file is not a record: {exc!r}") from exc
    if not isinstance(headers, dict) or type(revision) is not int:
        raise CorruptError(f"line {number} of the file is not a record: its headers or its revision are invalid")
    return Record(ref, payload, headers, revision)


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
