"""Retrying while a storage is unreachable, for a limited time per call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from flowstore.errors import UnreachableError

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 4.0
"""Pauses are random, up to a limit that doubles from the first to the second of these seconds. The first retry comes
without a pause: it may only be that the server has closed an idle connection."""

_GRACE: Final = 1.0  # seconds; see ``Patience._deadline``

T = TypeVar("T")

_limit: ContextVar[float | None] = ContextVar("flowstore_patience_limit", default=None)


@contextmanager
def limited(deadline: float | None) -> Iterator[None]:
    """Start no retry in this context after a time, by ``time.monotonic()``.

    ``None`` sets no limit.
    """
    before = _limit.get()
    if deadline is None or (before is not None and before <= deadline):
        yield
        return
    token = _limit.set(deadline)
    try:
        yield
    finally:
        _limit.reset(token)


class Patience:
    """The time for which one call retries while a storage is unreachable.

    Not thread-safe. Failed tries and the pauses after them use it up, connecting included. An operation with several
    requests to a storage shares one. A try is never cut short, so a call takes at most this time and one ``timeout`` of
    the storage.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._left = seconds

    def deadline_after(self, exc: UnreachableError, begun: float) -> float:
        """Return the deadline for retries after a failed first try.

        Args:
            begun: when the first try began, by ``time.monotonic()``.

        Raises:
            UnreachableError: the given error, if no time is left.
        """
        deadline, grace = self._deadline(begun)
        left = deadline - time.monotonic()
        if left + grace <= 0:
            raise exc
        text = str(exc)
        if repr(self._name) not in text:
            text = f"storage {self._name!r}: {text}"
        log.warning("%s; trying again for up to %.3g s", text, max(0.0, left))
        return deadline

    def try_again(self, operation: Callable[[], T], begun: float, deadline: float) -> T:
        """Retry an operation until the deadline; return what it returns.

        Raises:
            UnreachableError: the last try failed too.
        """
        try:
            return _tried_again(operation, deadline)
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - begun))

    def _deadline(self, begun: float) -> tuple[float, float]:
        """Return when the last try may begin, and how late a second try may be.

        A second try follows even if the first one has used up the whole time, because its timeout is as long: perhaps
        only the connection was broken.
        """
        deadline, limit = begun + self._left, _limit.get()
        if limit is not None and limit < deadline:
            return limit, 0.0
        return deadline, _GRACE if self._left else 0.0


def _tried_again(operation: Callable[[], T], deadline: float) -> T:
    import tenacity  # on the first failure only

    pause = tenacity.wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)

    def wait(state: Any) -> float:
        return min(pause(state), max(0.0, deadline - time.monotonic()))

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(UnreachableError),
        stop=lambda _: time.monotonic() >= deadline,
        wait=wait,
        reraise=True,
    )
    return retrying(operation)
