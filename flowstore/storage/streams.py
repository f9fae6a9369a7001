"""Binary streams into and out of a storage."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from typing import Any, Protocol

from flowstore.encoding.stream import ChunkStream


class BinaryFile(Protocol):
    """An object with the ``read`` method of a binary file."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to ``size`` bytes; ``b""`` at end of file."""


Readable = bytes | bytearray | memoryview | BinaryFile
"""What a blob can be stored from: bytes, or a file opened in binary mode."""


class Source:
    """A stream to be stored: read once, counting and hashing its bytes.

    Raises:
        TypeError: the argument is neither bytes nor a binary file.
    """

    def __init__(self, file: Readable) -> None:
        if isinstance(file, bytes | bytearray | memoryview):
            self._file: Any = io.BytesIO(file)
        elif callable(getattr(file, "read", None)):
            self._file = file
        else:
            raise TypeError(f"a blob must be bytes or a file opened in binary mode, not {type(file).__name__}")
        self.failure: Exception | None = None
        """The exception that reading the file raised: the caller's error, not the storage's."""
        self._ahead = b""
        self._hash = hashlib.blake2b(digest_size=16)
        self.size = 0
        """Bytes read so far."""

    @property
    def digest(self) -> str:
        """The digest of the bytes read so far."""
        return self._hash.hexdigest()

    def peek(self, size: int) -> bytes:
        """Return the next ``size`` bytes without consuming them.

        Fewer only at end of file.
        """
        self._ahead += self._take(size - len(self._ahead))
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at end of file."""
        data = self._ahead[:size]
        self._ahead = self._ahead[size:]
        if len(data) < size:
            rest = self._take(size - len(data))
            data = data + rest if data else rest
        self._hash.update(data)
        self.size += len(data)
        return data

    def _take(self, size: int) -> bytes:
        """Read until there are ``size`` bytes: a pipe may return fewer."""
        parts: list[bytes] = []
        while size > 0:
            try:
                part = self._file.read(size)
            except Exception as exc:
                self.failure = exc
                raise
            if isinstance(part, str):
                raise TypeError("a blob must be read from a file opened in binary mode; this one returns text")
            if part is None:
                raise TypeError("a blob must be read from a blocking file; this one is non-blocking")
            if not part:
                break
            parts.append(bytes(part))
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Stream(ChunkStream):
    """A stream of a generator's chunks; closing it closes the generator."""

    def __init__(self, first: bytes, parts: Generator[bytes, None, None]) -> None:
        super().__init__(first)
        self._parts = parts

    def _next_chunk(self) -> bytes:
        return next(filter(None, self._parts), b"")

    def close(self) -> None:
        """Close the stream and its generator."""
        if not self.closed:
            self._parts.close()
            self._rest = memoryview(b"")
        super().close()
