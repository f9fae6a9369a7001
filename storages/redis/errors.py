"""Exceptions of Redis' driver, translated."""

from __future__ import annotations

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from flowstore.errors import CorruptError, OutcomeUnknownError, StorageError, UnreachableError

_REFUSED = (BusyLoadingError, AuthenticationError, AuthorizationError)

_REDIRECTIONS = {"MOVED": MovedError, "ASK": AskError}

# Codes of a server that another one should replace; the driver cuts some of them off.
_ELSEWHERE = ("READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "CLUSTERDOWN", "LOADING")
_ELSEWHERE_CLASSES = (ReadOnlyError, MasterDownError, ClusterDownError, BusyLoadingError)

_UNUSABLE = {
    "OOM ": "is full: it has reached its maxmemory",
    "MISCONF": "takes no writes, because it can't save them to disk",
    "READONLY": "is a replica, which takes no writes",
    "MASTERDOWN": "has lost its primary",
    "NOREPLICAS": "takes no writes, because too few replicas are connected",
    "CLUSTERDOWN": "can't answer: its cluster is down",
    "TRYAGAIN": "can't answer while its cluster moves the keys",
    "LOADING": "is still loading its data",
    "BUSY": "is busy with another script",
    "NOAUTH": "requires a password",
    "WRONGPASS": "refuses the password",
    "NOPERM": "does not allow this user what flowstore needs",
}


def named(exc: ResponseError) -> ResponseError:
    """Return a redirection as its own class: old drivers don't."""
    if type(exc) is ResponseError:
        code, _, rest = str(exc).partition(" ")
        if code in _REDIRECTIONS:
            return _REDIRECTIONS[code](rest)
    return exc


def is_elsewhere(exc: object) -> bool:
    """Return whether an answer says that another server may be in charge.

    A former primary lives on as a replica, an isolated one misses its replicas, a restarted one loads its data. The
    connection to it stays open but of no use, while looking up the name again finds its successor.
    """
    if isinstance(exc, _ELSEWHERE_CLASSES):
        return True
    if not isinstance(exc, ResponseError):
        return False
    text = str(exc)
    return any(text.startswith(code) or f"-{code}" in text for code in _ELSEWHERE)


def broken(exc: Exception, server: str, *, mutates: bool) -> UnreachableError:
    """Return the error for a connection that broke during a command."""
    if isinstance(exc, _REFUSED):
        return UnreachableError(f"{server} refused: {_reason(exc)}")
    if mutates:
        return OutcomeUnknownError(f"the connection to {server} broke during a write: {_reason(exc)}")
    return UnreachableError(f"the connection to {server} broke: {_reason(exc)}")


def unreachable(exc: Exception, server: str) -> UnreachableError:
    """Return the error for a connection that could not be made."""
    if isinstance(exc, AuthenticationError | AuthorizationError | NoPermissionError):
        return UnreachableError(f"{server} refuses this user or password ({_reason(exc)})")
    return UnreachableError(f"can't connect to {server}: {_reason(exc)}")


def translate(exc: Exception, server: str) -> StorageError | None:
    """Return flowstore's error for a driver's exception, or None for a bug."""
    if not isinstance(exc, RedisError):
        return None
    # The driver cuts the code off errors that have a class.
    if isinstance(exc, ReadOnlyError):
        return UnreachableError(f"{server} {_UNUSABLE['READONLY']}")
    if isinstance(exc, NoPermissionError):
        return UnreachableError(f"{server} {_UNUSABLE['NOPERM']} ({_reason(exc)})")
    # A subclass of it in the driver.
    if isinstance(exc, MasterDownError):
        return UnreachableError(f"{server} {_UNUSABLE['MASTERDOWN']}")
    if isinstance(exc, ClusterDownError):
        return UnreachableError(f"{server} {_UNUSABLE['CLUSTERDOWN']}")
    if isinstance(exc, TryAgainError):
        return UnreachableError(f"{server} {_UNUSABLE['TRYAGAIN']}")
    if isinstance(exc, _REFUSED):
        return UnreachableError(f"{server} refused: {_reason(exc)}")
    if isinstance(exc, ResponseError):
        return _response(str(exc), server)
    if isinstance(exc, RedisClusterException):
        return UnreachableError(f"{server} can't be used as a cluster: {_reason(exc)}")
    return UnreachableError(f"{server} failed: {_reason(exc)}")


def _response(text: str, server: str) -> StorageError | None:
    if "command not allowed when used memory" in text:
        return UnreachableError(f"{server} {_UNUSABLE['OOM ']}")
    if "WRONGTYPE" in text or "wrong kind of value" in text:
        return CorruptError(f"{server} holds other data under the prefix: {text}")
    if "non local key" in text:
        return UnreachableError(f"{server} {_UNUSABLE['TRYAGAIN']}")
    for code, meaning in _UNUSABLE.items():
        # Older servers put a script's error at the end of another one.
        if text.startswith(code) or f"-{code}" in text:
            return UnreachableError(f"{server} {meaning}")
    return None


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
