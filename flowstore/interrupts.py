"""Exceptions that interrupt flowstore and must reach its caller.

Ctrl-C, ``SystemExit`` and the timeouts of gevent and eventlet don't derive from ``Exception``. Celery's soft time limit
does, and would look like a failure of what it interrupted: connecting, an import, decoding.
"""

from __future__ import annotations

import signal
from types import CodeType
from typing import Any, Final

_KINDS: Final[list[type[Exception]]] = []


def let_through(*kinds: type[Exception]) -> None:
    """Let exceptions of these types pass through flowstore unchanged.

    And of types derived from them. For exceptions that a timer or another thread raises in a running thread. Exceptions
    raised by signal handlers are recognized without this.
    """
    _KINDS.extend(kind for kind in kinds if kind not in _KINDS)


def is_interrupt(exc: BaseException) -> bool:
    """Return whether an exception interrupts flowstore, not a failure of it."""
    return not isinstance(exc, Exception) or isinstance(exc, tuple(_KINDS)) or _comes_from_a_signal(exc)


def _comes_from_a_signal(exc: Exception) -> bool:
    """Return whether a signal handler raised the exception."""
    handlers = {code for code in map(_code_of, map(signal.getsignal, signal.valid_signals())) if code is not None}
    step = exc.__traceback__ if handlers else None
    while step is not None:
        if step.tb_frame.f_code in handlers:
            return True
        step = step.tb_next
    return False


def _code_of(handler: Any) -> CodeType | None:
    code = getattr(getattr(handler, "__func__", handler), "__code__", None)
    return code if isinstance(code, CodeType) else None
