"""Adapters that the tests of state declare by this module's name."""

from __future__ import annotations

from collections.abc import Callable

from flowstore import Record, UnreachableError
from flowstore.storages import MemoryStorage


class LosingStorage(MemoryStorage):
    """Loses the answers to as many writes as ``lost`` has functions, and calls each in between: another's work."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[Callable[[], object]] = []
        self.arrives = True

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        if not self.lost:
            return super()._put(record, if_revision, now)
        others_work = self.lost.pop()
        if self.arrives:
            super()._put(record, if_revision, now)
        others_work()
        raise UnreachableError("the line is cut")
