"""Compression, and decompression in bounded memory."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from typing import Any, Final, Literal

from flowstore.errors import ConfigurationError, CorruptError
from flowstore.record import Record

CompressionCodec = Literal["zstd", "gzip"]

MAX_SIZE: Final = 256 * 2**20
"""Bytes that a payload may decompress to. Larger payloads are stored uncompressed."""

LEVELS: Final = {"zstd": range(1, 20), "gzip": range(1, 10)}
_DEFAULT_LEVELS: Final = {"zstd": 3, "gzip": 6}
_STEP: Final = 2**20
_GZIP: Final = 31
"""zlib's ``wbits`` for gzip. Its header contains no time, so equal payloads have equal bytes."""

_local = threading.local()


@dataclass(frozen=True, slots=True)
class Compression:
    """How the payloads of a storage are compressed.

    Attributes:
        level: 1 to 19 for zstd, 1 to 9 for gzip; ``None`` for the codec's default.
        min_size: payloads with fewer bytes are not compressed, nor are those that would not get smaller.
    """

    codec: CompressionCodec
    level: int | None = None
    min_size: int = 1024

    def __post_init__(self) -> None:
        levels = LEVELS.get(self.codec)
        if levels is None:
            raise ConfigurationError(f"{self.codec!r} is not a compression codec: use one of {', '.join(LEVELS)}")
        if self.level is not None and self.level not in levels:
            raise ConfigurationError(f"the level of {self.codec} must be {levels[0]} to {levels[-1]}, not {self.level}")


def compress(payload: bytes, how: Compression) -> bytes | None:
    """Compress a payload; return None if it should be stored uncompressed."""
    if not how.min_size <= len(payload) <= MAX_SIZE:
        return None
    level = _DEFAULT_LEVELS[how.codec] if how.level is None else how.level
    gzip = how.codec == "gzip"
    compressed: bytes = zlib.compress(payload, level, wbits=_GZIP) if gzip else _zstd(level).compress(payload)
    return compressed if len(compressed) < len(payload) else None


def decompress(record: Record, codec: str, payload: bytes) -> bytes:
    """Decompress a payload, up to the size that the record's headers name.

    Raises:
        CorruptError: the payload is damaged, has another size than the headers say, or is larger than ``MAX_SIZE``.
    """
    full_size = record.headers.get("full_size")
    if type(full_size) is not int or not 0 <= full_size <= MAX_SIZE:
        raise CorruptError(f"{record.ref} claims to decompress to {full_size!r} bytes; the maximum is {MAX_SIZE}")
    parts: list[bytes] = []
    size = 0
    try:
        reader = _ZstdReader(payload) if codec == "zstd" else _GzipReader(payload)
        # In steps, because the named size can be too large or too small.
        while size <= full_size and (part := reader.read(min(_STEP, full_size + 1 - size))):
            parts.append(part)
            size += len(part)
    except ImportError as exc:
        raise CorruptError(
            f"{record.ref} is compressed with zstd, and zstandard is not installed. Run: pip install 'flowstore[zstd]'"
        ) from exc
    except (zlib.error, EOFError, _zstd_errors()) as exc:
        raise CorruptError(f"the compressed payload of {record.ref} is damaged: {exc}") from exc
    if size != full_size:
        found = "more" if size > full_size else f"{size}"
        raise CorruptError(f"{record.ref} should decompress to {full_size} bytes, but holds {found}")
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _GzipReader:
    def __init__(self, payload: bytes) -> None:
        self._left = payload
        self._decompressor = zlib.decompressobj(wbits=_GZIP)

    def read(self, size: int) -> bytes:
        part = self._decompressor.decompress(self._left, size)
        self._left = self._decompressor.unconsumed_tail
        if not part and not self._decompressor.eof:
            raise EOFError("unexpected end of data")
        return part


class _ZstdReader:
    def __init__(self, payload: bytes) -> None:
        import zstandard

        # Kept per thread, because it is expensive to create; each stream resets it.
        decompressor = _local.__dict__.get("decompressor")
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
        self._reader = decompressor.stream_reader(payload)

    def read(self, size: int) -> bytes:
        part: bytes = self._reader.read(size)
        return part


def _zstd(level: int) -> Any:
    """Return this thread's compressor: expensive to create, not thread-safe."""
    import zstandard

    compressors: dict[int, Any] = _local.__dict__.setdefault("compressors", {})
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(level=level)
    return compressors[level]


def _zstd_errors() -> Any:
    import sys

    module = sys.modules.get("zstandard")
    return () if module is None else module.ZstdError
