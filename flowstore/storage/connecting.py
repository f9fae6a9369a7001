"""Connecting a storage, with the same errors whatever its adapter raises."""

from __future__ import annotations

import logging
import traceback
from typing import Any, Final, NoReturn

from flowstore.errors import ConfigurationError, FlowstoreError, StorageError, UnreachableError
from flowstore.interrupts import is_interrupt
from flowstore.storage.base import DataStorage
from flowstore.texts import MAX_TEXT, mask, spans_in_text, summarize

log = logging.getLogger(__name__)

_CONFIGURATION: Final = (ValueError, TypeError, ImportError)
"""What drivers raise for wrong arguments, which only a change of the configuration can fix."""

_BUGS: Final = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError),
    *(NotImplementedError, RecursionError, SyntaxError),
)

_REFUSED: Final = frozenset({"ProgrammingError", "NotSupportedError"})
"""The names that PEP 249 gives to errors of usage."""


_CALLERS: Final = frozenset({__name__, "flowstore.store.registry", "flowstore.storage.locking"})
"""The modules that call an adapter's methods here."""


def connect(storage: DataStorage, name: str) -> None:
    """Connect a storage.

    Raises:
        ConfigurationError: its configuration is wrong; trying again won't help.
        UnreachableError: its database can't be reached or used now.
        StorageError: its adapter has a bug.
    """
    try:
        storage.connect()
    except Exception as exc:
        raise_typed(exc, storage, name, "connect")


def described(storage: DataStorage) -> str:
    """Return the adapter's description of a storage, or the name of its class if ``describe`` fails."""
    try:
        return storage.describe()
    except Exception as exc:
        if is_interrupt(exc):
            raise
        log.debug("%s can't be described", type(storage).__name__, exc_info=True)
        return type(storage).__name__


def raise_typed(exc: Exception, storage: Any, name: str, method: str) -> NoReturn:
    """Raise flowstore's error for what an adapter's method raised while connecting.

    Args:
        storage: the adapter, or its class if there is no instance yet.
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
    shown = _shown(exc)
    adapter = storage if isinstance(storage, type) else type(storage)
    if isinstance(exc, TypeError) and _was_never_inside(exc):
        return StorageError(
            f"storage {name!r}: {adapter.__name__}.{method}() can't be called ({shown}): does it lack 'self'?"
        )
    if isinstance(exc, _BUGS):
        return StorageError(f"storage {name!r}: {adapter.__name__}.{method}() has a bug: {shown}")
    if isinstance(exc, _CONFIGURATION) or any(kind.__name__ in _REFUSED for kind in type(exc).__mro__):
        return ConfigurationError(f"storage {name!r} can't be connected as it is configured: {shown}")
    return UnreachableError(f"storage {name!r} can't be connected: {shown}")


def _shown(exc: Exception) -> str:
    """Return type and text of an exception, without the passwords that drivers repeat."""
    text = summarize(exc, MAX_TEXT)
    return mask(text, list(spans_in_text(text)))[0]


def _was_never_inside(exc: Exception) -> bool:
    """Return whether calling an adapter's method failed before the method ran."""
    *_, (frame, _) = traceback.walk_tb(exc.__traceback__)
    return frame.f_globals.get("__name__") in _CALLERS
