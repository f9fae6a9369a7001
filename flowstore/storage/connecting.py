"""Connecting a storage: whatever its adapter raises then gets one meaning, for every adapter alike."""

from __future__ import annotations

import logging
import traceback
from typing import Any, Final, NoReturn

from flowstore.errors import ConfigurationError, FlowstoreError, StorageError, UnreachableError
from flowstore.interrupts import is_interrupt
from flowstore.storage.minimum import DataStorage
from flowstore.texts import MAX_TEXT, mask, spans_in_text, summary

log = logging.getLogger(__name__)

_CONFIGURATION: Final = (ValueError, TypeError, ImportError)
"""What a driver raises at arguments that it can't take. Only the configuration can mend that."""

_BUGS: Final = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError),
    *(NotImplementedError, RecursionError, SyntaxError),
)

_REFUSED: Final = frozenset({"ProgrammingError", "NotSupportedError"})
"""By PEP 249, how a driver calls what was asked wrongly."""


_CALLERS: Final = frozenset({__name__, "flowstore.store.registry", "flowstore.storage.exclusion"})
"""The modules that call an adapter's methods here."""


def connect(storage: DataStorage, name: str) -> None:
    """Connect a storage.

    Raises:
        ConfigurationError: it can't be connected as it is configured; trying again won't help.
        UnreachableError: its database can't be reached, or not be used now.
        StorageError: its adapter has a bug.
    """
    try:
        storage.connect()
    except Exception as exc:
        raise_typed(exc, storage, name, "connect")


def described(storage: DataStorage) -> str:
    """Return what a storage is and where, as its adapter says; its class alone where the adapter can't tell."""
    try:
        return storage.describe()
    except Exception as exc:
        if is_interrupt(exc):
            raise
        log.debug("%s can't be described", type(storage).__name__, exc_info=True)
        return type(storage).__name__


def raise_typed(exc: Exception, storage: Any, name: str, method: str) -> NoReturn:
    """Raise the error that callers get for what an adapter's method raised before the storage could be used.

    Args:
        storage: the adapter, or its class where there is no instance yet.
        name: the storage's configured name.
    """
    if is_interrupt(exc):
        raise exc
    error = _typed(exc, storage, name, method)
    if isinstance(error, StorageError):
        error.storage = name
    if error is exc:
        raise exc
    raise error from exc


def _typed(exc: Exception, storage: Any, name: str, method: str) -> FlowstoreError:
    if isinstance(exc, ConfigurationError):
        named = bool(exc.mistakes) or repr(name) in str(exc)
        return exc if named else ConfigurationError(f"storage {name!r}: {exc}")
    if isinstance(exc, FlowstoreError):
        return exc
    translate = getattr(storage, "_translate", None)
    if translate is not None and not isinstance(storage, type):
        translated: StorageError | None = translate(exc)
        if translated is not None:
            return translated
    told = _told(exc)
    adapter = storage if isinstance(storage, type) else type(storage)
    if isinstance(exc, TypeError) and _was_never_inside(exc):
        return StorageError(
            f"storage {name!r}: {adapter.__name__}.{method}() can't be called ({told}): does it lack 'self'?"
        )
    if isinstance(exc, _BUGS):
        return StorageError(f"storage {name!r}: {adapter.__name__}.{method}() has a bug: {told}")
    if isinstance(exc, _CONFIGURATION) or any(kind.__name__ in _REFUSED for kind in type(exc).__mro__):
        return ConfigurationError(f"storage {name!r} can't be connected as it is configured: {told}")
    return UnreachableError(f"storage {name!r} can't be connected: {told}")


def _told(exc: Exception) -> str:
    """Return type and text of an exception, without passwords: drivers repeat what they were given."""
    text = summary(exc, MAX_TEXT)
    return mask(text, list(spans_in_text(text)))[0]


def _was_never_inside(exc: Exception) -> bool:
    """Return whether an exception comes from calling an adapter's method, not from what the method does."""
    *_, (frame, _) = traceback.walk_tb(exc.__traceback__)
    return frame.f_globals.get("__name__") in _CALLERS
