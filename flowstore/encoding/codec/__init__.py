"""Bytes to bytes: compression, then encryption, each told in the record's headers."""

from __future__ import annotations

from typing import Any, BinaryIO, Final

from flowstore.encoding.codec.compression import LEVELS, Compression, CompressionCodec, compress, decompress
from flowstore.encoding.codec.encryption import AES, KEY_BYTES, Encryption, Sealer
from flowstore.encoding.codec.frames import FRAMES, Readable, SealedFile, plain_size
from flowstore.encoding.codec.packages import PACKAGES, require
from flowstore.encoding.codec.weight import MOST, Weight
from flowstore.errors import CorruptError
from flowstore.record import FORMAT, Record, Ref

__all__ = [
    "AES",
    "KEY_BYTES",
    "LEVELS",
    "MOST",
    "PACKAGES",
    "Codecs",
    "Compression",
    "CompressionCodec",
    "Encryption",
    "Readable",
    "SealedFile",
    "file_size",
    "require",
]

_COMPRESSED: Final = frozenset({"zstd", "gzip"})


class Codecs:
    """Apply the codecs of a storage to payloads, and undo those that a record names. Safe in threads.

    Args:
        most: bytes of memory that reading what was compressed may take.

    Raises:
        ConfigurationError: a package that they need is not installed.
    """

    def __init__(self, compression: Compression | None, encryption: Encryption | None, most: int = MOST) -> None:
        if compression is not None:
            require(compression.codec)
        if encryption is not None:
            require(AES)
        self._compression = compression
        self._weight = Weight(most)
        self._sealer = None if encryption is None else Sealer(encryption)

    def encode(self, ref: Ref, serializer: str, payload: bytes) -> tuple[bytes, dict[str, Any]]:
        """Return the payload as it is to be stored, and the headers by which ``decode`` finds the way back.

        Raises:
            SerializationError: it is too large to be encrypted.
        """
        headers: dict[str, Any] = {}
        names: list[str] = []
        how = self._compression
        if how is not None and not self._weight.is_exceeded(payload, serializer):
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
            CorruptError: it is damaged, or can't be read with the keys and packages that are here.
        """
        names = record.headers.get("codecs", [])
        compressed, encrypted = _known(record, names)
        if not encrypted:
            self._check_plain(record)
        payload = self._keys_for(record).open(record) if encrypted else record.payload
        if compressed is None:
            return payload
        payload = decompress(record, compressed, payload)
        if self._weight.is_exceeded(payload, record.headers.get("serializer")):
            raise CorruptError(
                f"reading {record.ref} would take more than the {self._weight.most} bytes of memory that "
                "'decode_limit' of its storage allows; flowstore does not compress such values"
            )
        return payload

    def encode_file(self, ref: Ref, file: Readable, headers: dict[str, Any]) -> SealedFile | None:
        """Return a file as it is to be stored, and add to the headers how to read it; ``None`` to store it as it is."""
        return None if self._sealer is None else self._sealer.seal_file(ref, file, headers)

    def decode_file(self, record: Record, file: BinaryIO) -> BinaryIO:
        """Return what ``encode_file`` was given, to be read once; closing it closes the stored file.

        Raises:
            CorruptError: as ``decode``; also by reading.
        """
        if "codecs" in record.headers:
            if record.headers["codecs"] != [FRAMES]:
                raise CorruptError(f"{record.ref} was stored with codecs that are not known here")
            return self._keys_for(record).open_file(record, file)
        self._check_plain(record)
        return file

    def _keys_for(self, record: Record) -> Sealer:
        if self._sealer is None:
            raise CorruptError(
                f"{record.ref} is encrypted with the key {record.headers.get('key_id')!r}, "
                "and its storage names no keys: see 'encryption' in its configuration"
            )
        return self._sealer

    def _check_plain(self, record: Record) -> None:
        if self._sealer is not None and self._sealer.required:
            raise CorruptError(f"{record.ref} is not encrypted, and its storage requires that it is")


def file_size(record: Record) -> int:
    """Return how many bytes a blob has, as it was given; ``record`` is its head."""
    size: int = record.headers["size"]
    return plain_size(size) if record.headers.get("codecs") == [FRAMES] else size


def _known(record: Record, names: object) -> tuple[str | None, bool]:
    """Return which compression a record names, and whether it is encrypted; refuse any other codecs."""
    rest = list(names) if isinstance(names, list) else [None]
    encrypted = rest[-1:] == [AES]
    if encrypted:
        rest.pop()
    compressed = rest.pop() if len(rest) == 1 and rest[0] in _COMPRESSED else None
    if rest:
        raise CorruptError(f"{record.ref} was stored with the codecs {names!r}, which are not known here")
    return compressed, encrypted
