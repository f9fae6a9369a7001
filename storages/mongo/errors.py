"""Exceptions of MongoDB's driver, translated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.errors import ConfigurationError as DriverConfigurationError

from flowstore.errors import OutcomeUnknownError, StorageError, UnreachableError, UnsupportedError

REFUSED: Final = {
    18: "does not know the user or the password",
    8000: "does not know the user or the password",
    13: "does not let the user do that",
}
"""Codes of a server that knows the command, but not for this user."""

_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_NOT_WRITABLE: Final = frozenset({10107, 13435})
_EXISTS: Final = 11000


def translate(exc: Exception, where: str, mutates: bool) -> StorageError | None:
    """Return flowstore's error for a driver's exception, or None for a bug."""
    lost = OutcomeUnknownError if mutates else UnreachableError
    name = type(exc).__name__
    if isinstance(exc, ServerSelectionTimeoutError | WaitQueueTimeoutError):
        return UnreachableError(f"can't reach {where} ({name})")
    if isinstance(exc, NotPrimaryError) and _code(exc) in _NOT_WRITABLE:
        return UnreachableError(f"{where} has no primary right now")
    if isinstance(exc, DocumentTooLarge):
        return UnsupportedError(f"{where} can't store a document of that size")
    is_unconfirmed = isinstance(exc, BulkWriteError) and bool(exc.details.get("writeConcernErrors"))
    if is_unconfirmed or isinstance(exc, ConnectionFailure | ExecutionTimeout | WTimeoutError | WriteConcernError):
        return lost(f"the connection to {where} broke, or the server did not answer in time ({name})")
    if isinstance(exc, OperationFailure):
        code = _code(exc)
        if code in _TOO_LARGE:
            return UnsupportedError(f"{where} can't store a document of that size")
        why = REFUSED.get(code, "refuses the command")
        return StorageError(f"{where} {why} (code {code})")
    if isinstance(exc, InvalidOperation):
        return UnreachableError(f"{where} was disconnected while it was in use")
    if isinstance(exc, DriverConfigurationError):
        return StorageError(f"{where}: {exc}")  # two versions that don't fit together
    if isinstance(exc, PyMongoError):
        return StorageError(f"{where}: {name}")
    return None


def only_exist(exc: BulkWriteError) -> bool:
    """Return whether a batch failed only where documents exist already."""
    codes = {error.get("code") for error in exc.details.get("writeErrors", ())}
    return codes == {_EXISTS} and not exc.details.get("writeConcernErrors")


def _code(exc: PyMongoError) -> int:
    if isinstance(exc, BulkWriteError):
        return int(next((error.get("code", 0) for error in exc.details.get("writeErrors", ())), 0))
    if isinstance(exc, OperationFailure):
        return exc.code or 0
    answer = exc.errors if isinstance(exc, AutoReconnect) else None
    return int(answer.get("code", 0)) if isinstance(answer, Mapping) else 0
