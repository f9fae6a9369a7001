"""What psycopg's exceptions mean."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from flowstore.errors import ConfigurationError, CorruptError, FlowstoreError, StorageError, UnreachableError


class SilenceError(psycopg.OperationalError):
    """The server did not respond within the timeout; the connection is closed."""


READ_ONLY: Final = "25006"

# By SQLSTATE, or by its first two characters: its class.
_UNREACHABLE: Final = {
    READ_ONLY: "is read-only, as a standby is",
    "08": "lost the connection",
    "28": "refuses the user",
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
_CONFIGURED: Final = {
    "3D": "does not exist",
    "3F": "has none of the schemas in search_path: create one, or name another one there",
}
_CORRUPT: Final = ("XX001", "XX002")
_NOT_JSON: Final = ("22P02", "22P05")


# Refusals to connect have no code. These need a change of the configuration or the server. In other languages than
# English they are not recognized, and tried again.
_TO_MEND: Final = {
    r'database "[^"]*" does not exist|no such database': "does not exist: create it, or name another one",
    r'role "[^"]*" does not exist|no such user': "does not know the user: create the role, or name another one",
    "unsupported startup parameter": (
        "has a pooler in front that refuses an option of the connection string; 'options' can be settings of"
        " the user or of the database (ALTER ROLE … SET …)"
    ),
    "unrecognized configuration parameter|invalid value for parameter|invalid command-line argument": (
        "refuses what 'options' in the connection string says"
    ),
    "invalid (connection option|URI query parameter|integer value|.* value:)|bad value for": (
        "can't be connected with what the connection string says"
    ),
    "(certificate|private key|CRL) file .* (does not exist|could not)|could not (load|read) .*(certificate|key)": (
        "can't be connected with the files that the connection string names"
    ),
}


def text_of(exc: BaseException) -> str:
    """Return a driver's message in one line."""
    return " ".join(str(exc).split())


def refused(exc: psycopg.Error, name: object) -> FlowstoreError:
    """Return the flowstore error for an exception raised by connecting."""
    text = text_of(exc)
    for pattern, meaning in _TO_MEND.items():
        if re.search(pattern, text):
            return ConfigurationError(f"{name} {meaning} ({text})")
    if isinstance(exc, psycopg.ProgrammingError | psycopg.NotSupportedError):
        return ConfigurationError(f"{name} can't be connected with what the connection string says ({text})")
    error = translate(exc, name)
    return UnreachableError(f"{name} can't be reached ({text})") if error is None else error


def translate(exc: BaseException, name: object) -> FlowstoreError | None:
    """Return the flowstore error for a driver's exception, or None if the exception is a bug."""
    text = text_of(exc)
    if isinstance(exc, SilenceError):
        return UnreachableError(f"{name} did not answer within the timeout ({text})")
    if isinstance(exc, OSError):
        return UnreachableError(f"{name} can't be reached ({text})")
    if not isinstance(exc, psycopg.Error):
        return None
    state = exc.sqlstate
    if state is None:
        # Raised by the driver itself: the connection failed or is lost. Any other is a misuse of the driver.
        is_gone = isinstance(exc, psycopg.OperationalError)
        return UnreachableError(f"{name} can't be reached ({text})") if is_gone else None
    if state in _NOT_JSON:
        return CorruptError(f"{name} holds a value that is not JSON, though its headers say so ({text})")
    if state[:2] in _CONFIGURED:
        return ConfigurationError(f"{name} {_CONFIGURED[state[:2]]} ({text})")
    for code in (state, state[:2]):
        if code in _UNREACHABLE:
            return UnreachableError(f"{name} {_UNREACHABLE[code]} ({text})")
        if code in _REFUSED:
            return StorageError(f"{name} {_REFUSED[code]} ({text})")
    if state in _CORRUPT:
        return CorruptError(f"{name} is damaged ({text})")
    return None
