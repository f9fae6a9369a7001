"""Reading the file of a record."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from flowstore.record import Ref
from flowstore.storages.shared.envelope import Stored, damaged, read_envelope

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK: Final = 8192


def read_record(path: str, payload: bool, expected: Ref | None = None) -> Stored | None:
    """Read a record's file, or only its first line; return None if missing.

    Raises:
        CorruptError: the file is not whole, or not a record of this format.
    """
    where = f"the record's file {path}"
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise damaged(where, "it is a symbolic link") from exc
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise damaged(where, "it is not a file")
        data = _read(descriptor, status.st_size if payload else None)
    finally:
        os.close(descriptor)
    return read_envelope(data, status.st_size, payload, where, expected)


def _read(descriptor: int, size: int | None) -> bytes:
    """Read a whole file of a size, or at least its first line."""
    data = os.read(descriptor, _CHUNK if size is None else size)
    while (b"\n" not in data) if size is None else (len(data) < size):
        more = os.read(descriptor, _CHUNK if size is None else size - len(data))
        if not more:
            break
        data += more
    return data
