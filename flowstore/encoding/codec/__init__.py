"""Codecs: compression, then encryption, named in the record's headers."""

from __future__ import annotations

from typing import Any, BinaryIO, Final

from flowstore.encoding.codec.compression import LEVELS, Compression, CompressionCodec, compress, decompress
from flowstore.encoding.codec.encryption import AES, KEY_BYTES, Encryption, Sealer
from flowstore.encoding.codec.extras import PACKAGES, require_package
from flowstore.encoding.codec.frames import FRAMES, SealedFile, plain_size
from flowstore.encoding.codec.memory import DEFAULT_DECODE_LIMIT, MemoryLimit
from flowstore.encoding.stream import BinaryReader
from flowstore.errors import CorruptError
from flowstore.record import FORMAT, Record, Ref

__all__ = [
    "AES",
    "DEFAULT_DECODE_LIMIT",
    "KEY_BYTES",
    "LEVELS",
    "PACKAGES",
    "Codecs",
    "Compression",
    "CompressionCodec",
    "Encryption",
    "SealedFile",
    "file_size",
    "require_package",
]

_COMPRESSED: Final = frozenset({"zstd", "gzip"})


class Codecs:
    """Apply the codecs of a storage, and undo those that a record names.

    Thread-safe.

    Args:
        decode_limit: bytes of memory that decoding a compressed payload may take.

    Raises:
        ConfigurationError: a required package is not installed.
    """

    def __init__(
        self, compression: Compression | None, encryption: Encryption | None, decode_limit: int = DEFAULT_DECODE_LIMIT
    ) -> None:
        if compression is not None:
            require_package(compression.codec)
        if encryption is not None:
            require_package(AES)
        self._compression = compression
        self._memory = MemoryLimit(decode_limit)
        self._sealer = None if encryption is None else Sealer(encryption)

    def encode(self, ref: Ref, serializer: str, payload: bytes) -> tuple[bytes, dict[str, Any]]:
        """Return the encoded payload, and the headers that ``decode`` needs.

        Raises:
            SerializationError: the payload is too large to be encrypted.
        """
        headers: dict[str, Any] = {}
        names: list[str] = []
        how = self._compression
        if how is not None and not self._memory.is_exceeded_by(payload, serializer):
            compressed = compress(payload, how)
            if compressed is not None:
                names.append(how.codec)
                headers["full_size"] = len(payload)
                payload = compressed
        if self._sealer is not None:
            names.append(AES)
            headers["key_id"] = self._sealer.active
        if names:
            headers["codecs"] = names
        if self._sealer is not None:
            payload = self._sealer.seal(ref, payload, {"format": FORMAT, "serializer": serializer, **headers})
        return payload, headers

    def decode(self, record: Record) -> bytes:
        """Return the payload of a record without its codecs.

        Raises:
            CorruptError: the payload is damaged, or can't be read with the available keys and packages.
        """
        names = record.headers.get("codecs", [])
        compressed, encrypted = _known(record, names)
        if not encrypted:
            self._check_plain(record)
        payload = self._keys_for(record).open(record) if encrypted else record.payload
        if compressed is None:
            return payload
        payload = decompress(record, compressed, payload)
        if self._memory.is_exceeded_by(payload, record.headers.get("serializer")):
            raise CorruptError(
                f"decoding {record.ref} would take more than the {self._memory.limit} bytes of memory that "
                "'decode_limit' of its storage allows; flowstore does not compress such values"
            )
        return payload

    def encode_file(self, ref: Ref, file: BinaryReader, headers: dict[str, Any]) -> SealedFile | None:
        """Return the encrypted form of a file, and add its headers.

        Returns None if the storage does not encrypt.
        """
        return None if self._sealer is None else self._sealer.seal_file(ref, file, headers)

    def decode_file(self, record: Record, file: BinaryIO) -> BinaryIO:
        """Return the original file, to be read once.

        Closing it closes the stored file.

        Raises:
            CorruptError: as ``decode``; reading raises this too.
        """
        if "codecs" in record.headers:
            if record.headers["codecs"] != [FRAMES]:
                raise CorruptError(f"{record.ref} was stored with unknown codecs")
            return self._keys_for(record).open_file(record, file)
        self._check_plain(record)
        return file

    def _keys_for(self, record: Record) -> Sealer:
        if self._sealer is None:
            raise CorruptError(
                f"{record.ref} is encrypted with the key {record.headers.get('key_id')!r}, "
                "and its storage has no keys: see 'encryption' in its configuration"
            )
        return self._sealer

    def _check_plain(self, record: Record) -> None:
        if self._sealer is not None and self._sealer.required:
            raise CorruptError(f"{record.ref} is not encrypted, and its storage requires encryption")


def file_size(record: Record) -> int:
    """Return the original size of a blob; ``record`` is its head."""
    size: int = record.headers["size"]
    return plain_size(size) if record.headers.get("codecs") == [FRAMES] else size


def _known(record: Record, names: object) -> tuple[str | None, bool]:
    """Return a record's compression, and whether it is encrypted.

    Raises CorruptError for any other codecs.
    """
    rest = list(names) if isinstance(names, list) else [None]
    encrypted = rest[-1:] == [AES]
    if encrypted:
        rest.pop()
    compressed = rest.pop() if len(rest) == 1 and rest[0] in _COMPRESSED else None
    if rest:
        raise CorruptError(f"{record.ref} was stored with the unknown codecs {names!r}")
    return compressed, encrypted
