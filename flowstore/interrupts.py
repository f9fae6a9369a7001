"""Exceptions that are meant for the code that called flowstore, wherever they strike: they pass through unchanged.

Ctrl-C, ``SystemExit`` and the timeouts of gevent and eventlet are no ``Exception`` and pass by themselves. A soft time
limit of Celery's is one, and would look like the failure of what it has interrupted: connecting, an import, decoding.
"""

from __future__ import annotations

import signal
from types import CodeType
from typing import Any, Final

_KINDS: Final[list[type[Exception]]] = []


def let_through(*kinds: type[Exception]) -> None:
    """Let exceptions of these types, and of those derived from them, pass through flowstore unchanged.

    For what a timer or another thread raises in the middle of whatever a thread is doing. What a handler of a signal
    raises is known without this.
    """
    _KINDS.extend(kind for kind in kinds if kind not in _KINDS)


def is_interrupt(exc: BaseException) -> bool:
    """Return whether an exception is meant for the code that called flowstore, not about what flowstore was doing."""
    return not isinstance(exc, Exception) or isinstance(exc, tuple(_KINDS)) or _comes_from_a_signal(exc)


def _comes_from_a_signal(exc: Exception) -> bool:
    """Return whether an exception has passed through a function that handles a signal."""
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
