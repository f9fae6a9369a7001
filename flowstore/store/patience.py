"""How long a call keeps trying while a storage can't be reached: a time, shared by all its tries."""

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
"""Pauses are random, up to a limit that doubles from the first of these to the second. None follows the first try: that
a server has closed an idle connection is told by the next one."""

_GRACE: Final = 1.0  # seconds; see ``Patience._deadline``

T = TypeVar("T")

_limit: ContextVar[float | None] = ContextVar("flowstore_patience_limit", default=None)


@contextmanager
def limited(deadline: float | None) -> Iterator[None]:
    """Let no call in this context begin another try after a time, by ``time.monotonic()``; ``None`` changes nothing."""
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
    """The time that one call has for trying again while a storage can't be reached. Not for several threads.

    It counts what failed tries and the pauses between them take, connecting included, and nothing that lies between: an
    operation that asks a storage several times shares one of these. A try that has begun is not cut off, so a call
    takes no longer than this and one ``timeout`` of the storage.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._left = seconds

    def deadline_after(self, exc: UnreachableError, begun: float) -> float:
        """Return until when to try again, after a first try that has begun at a time by ``time.monotonic()``.

        Raises:
            UnreachableError: the given one, if no time is left.
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
        """Return what an operation returns, tried until the deadline as long as it raises UnreachableError.

        Raises:
            UnreachableError: the last one, when the time is up.
        """
        try:
            return _tried_again(operation, deadline)
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - begun))

    def _deadline(self, begun: float) -> tuple[float, float]:
        """Return when the last try may begin, and by how much a second one may be late.

        A first one that has waited for the whole time, because its timeout is as long, is followed by another one: it
        may be the connection alone that is broken.
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
