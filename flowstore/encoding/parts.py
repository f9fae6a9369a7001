"""Bytes that come in parts, as a file."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any


class Parts(io.RawIOBase):
    """Parts that come one after the other, to be read once; a subclass tells which."""

    def __init__(self, first: bytes = b"") -> None:
        super().__init__()
        self._rest = memoryview(first)

    @abstractmethod
    def _next(self) -> bytes:
        """Return the next part, and nothing after the last one."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer with what comes next; return the number of bytes, 0 at the end."""
        self._checkClosed()
        if not self._rest:
            self._rest = memoryview(self._next())
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
