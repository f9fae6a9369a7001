"""The form of a record's file: a line of JSON that tells what it is, then the payload's bytes."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Any, Final

import orjson

from flowstore.errors import CorruptError, InvalidKeyError
from flowstore.record import Key, Record, Ref
from flowstore.storages._records import dump_headers

FORMAT: Final = 1

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK: Final = 8192


@dataclass(frozen=True, slots=True)
class Stored:
    """A record and when it was first stored, in nanoseconds."""

    record: Record
    created: int

    @property
    def position(self) -> tuple[int, str]:
        """Where the record comes in a listing."""
        return self.created, self.record.ref.address.hex()


def first_line(record: Record, revision: int, created: int) -> bytes:
    """Return what a record's file begins with."""
    ref, key = record.ref, record.ref.key
    envelope = {
        "format": FORMAT,
        "kind": ref.kind,
        "flow_name": key.flow_name,
        "task_name": key.task_name,
        "task_id": key.task_id,
        "name": ref.name,
        "revision": revision,
        "created": created,
        "size": len(record.payload),
        "headers": orjson.Fragment(dump_headers(record)),
    }
    return orjson.dumps(envelope, option=orjson.OPT_APPEND_NEWLINE)


def read_record(path: str, payload: bool) -> Stored | None:
    """Read a record's file, or only its first line; return ``None`` if there is no such file.

    Raises:
        CorruptError: the file is not whole, or no record of this format.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise _damaged(path, "it is a symbolic link") from exc
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(path, "it is not a file")
        data = _read(descriptor, status.st_size if payload else None)
    finally:
        os.close(descriptor)
    end = data.find(b"\n") + 1
    if not end:
        raise _damaged(path, "its first line has no end")
    stored, size = _parse(data[:end], data[end:] if payload else b"", path)
    if end + size != status.st_size:
        raise _damaged(path, f"its payload has {status.st_size - end} bytes instead of {size}")
    return stored


def _read(descriptor: int, size: int | None) -> bytes:
    """Read a whole file of that size, or one up to the end of its first line."""
    data = os.read(descriptor, _CHUNK if size is None else size)
    while (b"\n" not in data) if size is None else (len(data) < size):
        more = os.read(descriptor, _CHUNK if size is None else size - len(data))
        if not more:
            break
        data += more
    return data


def _parse(line: bytes, payload: bytes, path: str) -> tuple[Stored, int]:
    try:
        envelope: dict[str, Any] = orjson.loads(line)
        if envelope["format"] != FORMAT:
            raise _damaged(path, f"it has the format {envelope['format']!r}, this version reads {FORMAT}")
        key = Key(envelope["flow_name"], envelope["task_name"], envelope["task_id"])
        ref = Ref(envelope["kind"], key, envelope["name"])
        headers, revision, created, size = (envelope[name] for name in ("headers", "revision", "created", "size"))
    except (ValueError, KeyError, TypeError, InvalidKeyError) as exc:
        raise _damaged(path, f"its first line is not a record's ({type(exc).__name__}: {exc})") from exc
    if not (type(headers) is dict and type(revision) is type(created) is type(size) is int):
        raise _damaged(path, "its first line is not a record's")
    return Stored(Record(ref, payload, headers, revision), created), size


def _damaged(path: str, why: str) -> CorruptError:
    return CorruptError(f"the record's file {path} can't be read: {why}")
