"""Records in a file: JSON lines, one record each, to be read by any program.

The first line tells what the file is, the last one how many lines there are and their digest, so that a file that was
cut off is recognized. docs/copy.md describes each line.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final

from flowstore.copying.copy import groups, head_pages
from flowstore.copying.lines import BlobParts, LineReader, LineWriter, packed
from flowstore.copying.outcome import PAGE, CopyResult, OnConflict, Problem, Report, counted, damage_failing, is_whole
from flowstore.copying.writer import Writer
from flowstore.errors import CorruptError, NotFoundError
from flowstore.record import BLOB, PIECE, Key, Query, Record, Ref
from flowstore.record.headers import mistake_in
from flowstore.storage import PART, RecordStorage
from flowstore.storage.revisions import LATEST

_BATCH: Final = 8 << 20
_NEVER: Final = ("content", "generations")
"""Headers by which a storage finds the bytes that it keeps apart."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What a file has: records, and blobs among them; and how many could not be read and are left out."""

    records: int = 0
    blobs: int = 0
    failed: int = 0


def export_records(
    source: RecordStorage,
    file: IO[bytes],
    query: Query | None = None,
    *,
    progress: Callable[[Exported], None] | None = None,
    report: Report | None = None,
) -> Exported:
    """Write records and blobs to a file, a page at a time.

    What can't be read, or has other bytes than its digest tells of, is left out, counted and reported. Of a blob that
    shows only after its beginning was written, the beginning is there; an import refuses it.

    Args:
        file: opened for writing in binary mode; see ``open_export`` for compressed ones.
        query: which records; all that have not expired, if left out.
        report: called for each that is left out.

    Raises:
        StorageError: the source can't be listed or reached. What has been written is no complete file.
    """
    export = _Export(source, LineWriter(file), report)
    with damage_failing(export.fail, report):
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
    def __init__(self, source: RecordStorage, lines: LineWriter, report: Report | None) -> None:
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
            if is_whole(record):
                self._lines.write({**_facts(record), **_content(record)})
                self.done = counted(self.done, records=1)
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
                        self._lines.write({"part": packed(part)})
        except NotFoundError:
            return  # deleted since it was listed
        except CorruptError as exc:
            self.fail(ref, exc)
            if begun:
                self._lines.write({"part": None})
            return
        self._lines.write({"part": None})
        self.done = counted(self.done, records=1, blobs=1)

    def fail(self, ref: Ref | None, why: object) -> None:
        """Count what is left out."""
        self.done = counted(self.done, failed=1)
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
    report: Report | None = None,
) -> CopyResult:
    """Write the records and blobs of a file to a storage, as ``copy`` does: run again, what has arrived is skipped.

    A record of a kind, or with headers, that no export has is refused: it is counted as failed, and reported with the
    number of its line.

    Args:
        file: opened for reading in binary mode; see ``open_export`` for compressed ones.
        on_conflict, progress, report: as for ``copy``.

    Raises:
        CorruptError: the file is no export, was cut off, or a line was changed. What came before it has been imported.
        UnsupportedError: a newer version of flowstore has written it.
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
            blob = BlobParts(lines)
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
    return {"base64": packed(record.payload)} if payload is None else {"payload": payload}


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
    """Return what is in a record that no export writes: it would reach what belongs to other records."""
    if record.kind == PIECE:
        return f"records of the kind {PIECE!r} are never exported"
    for name in _NEVER:
        if name in record.headers:
            return f"the header {name!r} is never exported"
    if not 1 <= record.revision <= LATEST:
        return f"{record.revision} is no revision"
    return mistake_in(record.headers)


def _record(line: dict[str, Any], number: int) -> Record:
    try:
        ref = Ref(line["kind"], Key(line["flow"], line["task"], line["id"]), line["name"])
        revision, headers = line["revision"], line["headers"]
        payload = (
            line["payload"].encode() if "payload" in line else base64.b64decode(line.get("base64", ""), validate=True)
        )
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise CorruptError(f"line {number} of the file tells of no record: {exc!r}") from exc
    if not isinstance(headers, dict) or type(revision) is not int:
        raise CorruptError(f"line {number} of the file tells of no record: its headers or revision are none")
    return Record(ref, payload, headers, revision)


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
