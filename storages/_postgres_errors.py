"""What psycopg's exceptions mean."""

from __future__ import annotations

from typing import Final

import psycopg

from flowstore.errors import CorruptError, StorageError, UnreachableError

READ_ONLY: Final = "25006"

# By SQLSTATE, or by its first two characters: its class.
_UNREACHABLE: Final = {
    READ_ONLY: "is read-only, as a standby is",
    "08": "lost the connection",
    "28": "refuses the user",
    "3D": "does not exist",
    "40": "let another transaction go first",
    "53": "has no room: disk, memory or connections",
    "55P03": "is locked by another writer for longer than the timeout",
    "57014": "did not answer within the timeout",
    "57": "is shutting down or starting",
    "58": "can't be read or written",
}
_REFUSED: Final = {
    "22": "can't keep this",
    "42501": "does not allow the user to do this",
    "42P01": "has lost flowstore's tables, or does not show them to the user",
    "54": "can't keep this: it is too large",
}
_CORRUPT: Final = ("XX001", "XX002")
_NOT_JSON: Final = ("22P02", "22P05")


def translate(exc: BaseException, name: object) -> StorageError | None:
    """Return the flowstore error that an exception of the driver means, or ``None`` for one that is a bug."""
    if isinstance(exc, OSError):
        return UnreachableError(f"{name} can't be reached ({exc})")
    if not isinstance(exc, psycopg.Error):
        return None
    state = exc.sqlstate
    if state is None:
        # The driver itself found it: the connection can't be made, or is gone. Else, it was used in a wrong way.
        is_gone = isinstance(exc, psycopg.OperationalError)
        return UnreachableError(f"{name} can't be reached ({exc})") if is_gone else None
    if state in _NOT_JSON:
        return CorruptError(f"{name} holds a value that is no JSON, though its headers say so ({exc})")
    for code in (state, state[:2]):
        if code in _UNREACHABLE:
            return UnreachableError(f"{name} {_UNREACHABLE[code]} ({exc})")
        if code in _REFUSED:
            return StorageError(f"{name} {_REFUSED[code]} ({exc})")
    if state in _CORRUPT:
        return CorruptError(f"{name} is damaged ({exc})")
    return None
