"""What exceptions of the sqlite3 module mean."""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from flowstore.errors import CorruptError, StorageError, UnreachableError

from ..target import Target

_UNREACHABLE: Final = {
    sqlite3.SQLITE_BUSY: "is locked by another writer for longer than the timeout",
    sqlite3.SQLITE_LOCKED: "is locked by another writer",
    sqlite3.SQLITE_CANTOPEN: "can't be opened",
    sqlite3.SQLITE_READONLY: "can't be written",
    sqlite3.SQLITE_PERM: "may not be used by this user",
    sqlite3.SQLITE_AUTH: "may not be used by this user",
    sqlite3.SQLITE_FULL: "can't grow: the disk is full; deleting needs room too, so make some by other means",
    sqlite3.SQLITE_IOERR: "can't be read or written",
    sqlite3.SQLITE_PROTOCOL: "can't be locked",
    sqlite3.SQLITE_NOMEM: "does not fit into memory",
}


def translate(exc: BaseException, name: Target) -> StorageError | None:
    """Return the flowstore error for a driver's exception, or None if the exception is a bug."""
    if isinstance(exc, OSError):
        return UnreachableError(f"can't open {name}: {exc.strerror}")
    if isinstance(exc, OverflowError):
        return StorageError("the value is larger than SQLite can keep")
    if not isinstance(exc, sqlite3.Error):
        return None
    code = _code(exc)
    if code in _UNREACHABLE:
        return UnreachableError(f"{name} {_UNREACHABLE[code]} ({exc}){_hint(code, name)}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(f"{name} is damaged, or is not a SQLite database ({exc})")
    if code == sqlite3.SQLITE_TOOBIG:
        return StorageError("the value is larger than SQLite can keep")
    if "too many SQL variables" in str(exc):
        return StorageError(f"the query names more values than SQLite takes ({exc})")
    if is_no_text(exc):
        return CorruptError(f"{name} holds text that is not UTF-8 ({exc})")
    return None


def _hint(code: int | None, target: Target) -> str:
    """Return an explanation if the folder is not writable."""
    if code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or target.path is None:
        return ""
    folder = os.path.dirname(target.path)
    if not os.path.isdir(folder) or os.access(folder, os.W_OK):
        return ""
    return f": SQLite writes beside the file even to read it, and this process may not write in {folder}"


def _code(exc: BaseException) -> int | None:
    """Return SQLite's primary result code."""
    extended = getattr(exc, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def is_no_text(exc: BaseException) -> bool:
    """Return whether a text column is not UTF-8. The driver raises this itself, without a code."""
    return isinstance(exc, sqlite3.OperationalError) and _code(exc) is None and "decode" in str(exc)


def is_busy(exc: BaseException) -> bool:
    """Return whether another connection holds the lock."""
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
