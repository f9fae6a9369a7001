"""Binary streams."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any, Protocol


class BinaryReader(Protocol):
    """An object with the ``read`` method of a binary file."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; ``b""`` at end of file."""


class ChunkStream(io.RawIOBase):
    """A read-once binary stream built from chunks.

    Subclasses implement ``_next_chunk``.
    """

    def __init__(self, first: bytes = b"") -> None:
        super().__init__()
        self._rest = memoryview(first)

    @abstractmethod
    def _next_chunk(self) -> bytes:
        """Return the next chunk, or ``b""`` after the last one."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; return the number of bytes, 0 at end of file."""
        self._checkClosed()
        if not self._rest:
            self._rest = memoryview(self._next_chunk())
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
