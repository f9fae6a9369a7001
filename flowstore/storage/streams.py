"""Bytes on their way into a storage and out of it, a part at a time."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from typing import Any, Protocol

from flowstore.encoding.parts import Parts


class BinaryFile(Protocol):
    """What is read like a file that was opened in binary mode."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to so many bytes, none of them only at the end."""


Readable = bytes | bytearray | memoryview | BinaryFile
"""What a blob can be stored from: bytes, or a file that was opened in binary mode."""


class Source:
    """What is being stored: read once, in parts of any size, counted and hashed on the way.

    Raises:
        TypeError: it is neither bytes nor a binary file.
    """

    def __init__(self, file: Readable) -> None:
        if isinstance(file, bytes | bytearray | memoryview):
            self._file: Any = io.BytesIO(file)
        elif callable(getattr(file, "read", None)):
            self._file = file
        else:
            raise TypeError(f"a blob is bytes or a file opened in binary mode, not {type(file).__name__}")
        self.failure: Exception | None = None
        """What the file raised when it was read: the caller's error, not the storage's."""
        self._ahead = b""
        self._hash = hashlib.blake2b(digest_size=16)
        self.size = 0
        """Bytes that have been read."""

    @property
    def digest(self) -> str:
        """The digest of what has been read."""
        return self._hash.hexdigest()

    def peek(self, size: int) -> bytes:
        """Return what the next ``read`` begins with: that many bytes, less only at the end."""
        self._ahead += self._take(size - len(self._ahead))
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """Return the next bytes: that many, less only at the end, and none after it."""
        data = self._ahead[:size]
        self._ahead = self._ahead[size:]
        if len(data) < size:
            rest = self._take(size - len(data))
            data = data + rest if data else rest
        self._hash.update(data)
        self.size += len(data)
        return data

    def _take(self, size: int) -> bytes:
        """Read from the file until there is enough: a pipe or socket gives what it has."""
        parts: list[bytes] = []
        while size > 0:
            try:
                part = self._file.read(size)
            except Exception as exc:
                self.failure = exc
                raise
            if isinstance(part, str):
                raise TypeError("a blob is read from a file opened in binary mode; this one gives text")
            if part is None:
                raise TypeError("a blob is read from a file that waits for its bytes; this one is non-blocking")
            if not part:
                break
            parts.append(bytes(part))
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Stream(Parts):
    """The parts of a generator, as a file. Closing it ends the generator."""

    def __init__(self, first: bytes, parts: Generator[bytes, None, None]) -> None:
        super().__init__(first)
        self._parts = parts

    def _next(self) -> bytes:
        return next(filter(None, self._parts), b"")

    def close(self) -> None:
        """Let go of what the bytes come from."""
        if not self.closed:
            self._parts.close()
            self._rest = memoryview(b"")
        super().close()
