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
from flowstore.copying.outcome import PAGE, CopyResult, OnConflict, Report, counted, is_whole
from flowstore.copying.writer import Writer
from flowstore.errors import CorruptError, NotFoundError
from flowstore.record import BLOB, Key, Query, Record, Ref
from flowstore.storage import PART, RecordStorage

_BATCH: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Exported:
    """What a file has: records, and blobs among them."""

    records: int = 0
    blobs: int = 0


def export_records(
    source: RecordStorage,
    file: IO[bytes],
    query: Query | None = None,
    *,
    progress: Callable[[Exported], None] | None = None,
) -> Exported:
    """Write records and blobs to a file, a page at a time.

    Args:
        file: opened for writing in binary mode; see ``open_export`` for compressed ones.
        query: which records; all that have not expired, if left out.

    Raises:
        CorruptError: one of them can't be read, or has other bytes than its digest tells of.
        StorageError: the source can't be listed or reached. What has been written is no complete file.
    """
    lines = LineWriter(file)
    done = Exported()
    for page in head_pages(source, query or Query()):
        for refs in groups(page.records):
            if isinstance(refs, Record):
                done = counted(done, records=1, blobs=1) if _export_blob(source, refs, lines) else done
            else:
                records = [record for record in source.get_many(refs) if record is not None]
                for record in records:
                    _export(record, lines)
                done = counted(done, records=len(records))
            if progress is not None:
                progress(done)
    lines.end({"records": done.records, "blobs": done.blobs})
    return done


def import_records(
    file: IO[bytes],
    target: RecordStorage,
    *,
    on_conflict: OnConflict = "keep",
    progress: Callable[[CopyResult], None] | None = None,
    report: Report | None = None,
) -> CopyResult:
    """Write the records and blobs of a file to a storage, as ``copy`` does: run again, what has arrived is skipped.

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
        head = _record(line)
        if BLOB in head.headers:
            flush()
            blob = BlobParts(lines)
            writer.write_blob(head, io.BufferedReader(blob))
            blob.skip()
            continue
        batch.append(head)
        room -= len(head.payload)
        if room < 0 or len(batch) == PAGE:
            flush()
            room = _BATCH
    flush()
    return writer.result


def _export(record: Record, lines: LineWriter) -> None:
    if not is_whole(record):
        raise CorruptError(f"the stored payload of {record.ref} does not match its digest")
    payload = _text(record.payload) if record.is_json else None
    content = {"base64": packed(record.payload)} if payload is None else {"payload": payload}
    lines.write({**_facts(record), **content})


def _export_blob(source: RecordStorage, head: Record, lines: LineWriter) -> bool:
    try:
        file = source.retrieve_blob(head.ref.key, head.ref.name, kind=head.ref.kind, raw=True)
    except NotFoundError:
        return False  # deleted since it was listed
    with file:
        lines.write(_facts(head))
        while part := file.read(PART):
            lines.write({"part": packed(part)})
        lines.write({"part": None})
    return True


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


def _record(line: dict[str, Any]) -> Record:
    try:
        ref = Ref(line["kind"], Key(line["flow"], line["task"], line["id"]), line["name"])
        revision, headers = line["revision"], line["headers"]
        payload = (
            line["payload"].encode() if "payload" in line else base64.b64decode(line.get("base64", ""), validate=True)
        )
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise CorruptError(f"a line of the file tells of no record: {exc!r}") from exc
    if not isinstance(headers, dict) or type(revision) is not int:
        raise CorruptError("a line of the file tells of no record: its headers or revision are none")
    return Record(ref, payload, headers, revision)


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
