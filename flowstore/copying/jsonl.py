"""The format of export files: JSON Lines with a digest."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, Final, Literal

import orjson

from flowstore.copying.atomic import atomic_write
from flowstore.encoding.stream import ChunkStream
from flowstore.errors import CorruptError, UnsupportedError

EXPORT_FORMAT: Final = "flowstore-export"
EXPORT_VERSION: Final = 1

_MAX_LINE: Final = 1 << 30  # bytes of a line


@contextmanager
def open_export(path: str, mode: Literal["rb", "wb"]) -> Iterator[BinaryIO]:
    """Open a file to export to (``wb``) or import from (``rb``).

    It is compressed if its name ends with ``.gz`` or ``.zst``. A new file appears when the block ends, readable only by
    its owner: see ``atomic_write``.

    Raises:
        UnsupportedError: the file is a .zst, and the package zstandard is not installed.
    """
    with atomic_write(path) if mode == "wb" else open(path, "rb") as file, _packing(path, file, mode) as packed:
        yield packed


@contextmanager
def _packing(path: str, file: BinaryIO, mode: Literal["rb", "wb"]) -> Iterator[BinaryIO]:
    if path.endswith(".gz"):
        with gzip.GzipFile("", mode, fileobj=file) as packed, _refusing(path, zlib.error):
            yield packed  # type: ignore[misc]  # it has the methods that are used
    elif path.endswith(".zst"):
        try:
            import zstandard
        except ImportError as exc:
            raise UnsupportedError("a .zst file needs zstandard: pip install 'flowstore[zstd]'") from exc
        with zstandard.open(file, mode, closefd=False) as packed, _refusing(path, zstandard.ZstdError):
            yield io.BufferedReader(packed) if mode == "rb" else packed
    else:
        yield file


@contextmanager
def _refusing(path: str, error: type[Exception]) -> Iterator[None]:
    """Turn a decompressor's error into a CorruptError."""
    try:
        yield
    except error as exc:
        raise CorruptError(f"{path} can't be decompressed: {exc}") from exc


class LineWriter:
    """Write lines, the first and the last one included."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lines = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self.write({"format": EXPORT_FORMAT, "version": EXPORT_VERSION})

    def write(self, line: dict[str, Any]) -> None:
        text = orjson.dumps(line) + b"\n"
        self._hash.update(text)
        self._lines += 1
        self._file.write(text)

    def end(self, facts: dict[str, Any]) -> None:
        """Write the last line: the facts, the number of lines and their digest."""
        self.write({"end": {**facts, "lines": self._lines, "digest": self._hash.hexdigest()}})


class LineReader:
    """Read the lines of a file, and verify their number and digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=16)
        self.number = 0
        first = self._next()
        if first.get("format") != EXPORT_FORMAT:
            raise CorruptError("the file is not an export of flowstore")
        if first.get("version") != EXPORT_VERSION:
            raise UnsupportedError(
                f"the file has version {first.get('version')!r}; this release reads {EXPORT_VERSION}"
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (line := self.line()) is not None:
            yield line

    def line(self) -> dict[str, Any] | None:
        """Return the next line, or ``None`` after the last one."""
        before, number = self._hash.hexdigest(), self.number
        line = self._next()
        end = line.get("end")
        if end is None:
            return line
        if not isinstance(end, dict) or (end.get("digest"), end.get("lines")) != (before, number):
            raise CorruptError("the lines of the file do not match its digest")
        if self._file.read(1):
            raise CorruptError("the file has data after its last line")
        return None

    def _next(self) -> dict[str, Any]:
        try:
            text = self._file.readline(_MAX_LINE)
        except (EOFError, OSError) as exc:
            raise CorruptError(f"the file can't be read after line {self.number}: {exc}") from exc
        if not text.endswith(b"\n"):
            raise CorruptError(f"the file is truncated in or after line {self.number}")
        self.number += 1
        self._hash.update(text)
        try:
            line = orjson.loads(text)
        except ValueError as exc:
            raise CorruptError(f"line {self.number} is not JSON: {exc}") from exc
        if not isinstance(line, dict):
            raise CorruptError(f"line {self.number} is not a JSON object")
        return line


class BlobReader(ChunkStream):
    """Read a blob from its lines."""

    def __init__(self, lines: LineReader) -> None:
        super().__init__()
        self._lines = lines
        self._ended = False

    def skip(self) -> None:
        """Skip what has not been read."""
        while self._next_chunk():
            pass

    def _next_chunk(self) -> bytes:
        if self._ended:
            return b""
        line = self._lines.line()
        if line is None or "part" not in line:
            raise CorruptError("a blob in the file is incomplete")
        if line["part"] is None:
            self._ended = True
            return b""
        try:
            return base64.b64decode(line["part"], validate=True)
        except (ValueError, TypeError, binascii.Error) as exc:
            raise CorruptError("a part of a blob in the file is not base64") from exc


def to_base64(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode()
