"""Encryption with a key ring; each payload is bound to its record."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import urandom
from typing import Any, BinaryIO, Final

from flowstore.encoding.codec.frames import FRAMES, FrameCipher, OpenedFile, SealedFile, new_salt
from flowstore.encoding.stream import BinaryReader
from flowstore.errors import ConfigurationError, CorruptError, SerializationError
from flowstore.record import Record, Ref

AES: Final = "aes-256-gcm"
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_BOUND: Final = ("format", "serializer", "codecs", "full_size", "key_id", "salt")
"""The headers that decoding depends on; they are authenticated with the payload."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """The keys of a storage.

    Attributes:
        keys: by id, 32 bytes each. Inactive keys decrypt what was encrypted with them.
        active: the id of the key that encrypts new records.
        required: whether records that aren't encrypted are refused.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    active: str
    required: bool = False

    def __post_init__(self) -> None:
        for key_id, key in self.keys.items():
            if len(key) != KEY_BYTES:
                raise ConfigurationError(f"the key {key_id!r} has {len(key)} bytes, not {KEY_BYTES}")
        if self.active not in self.keys:
            raise ConfigurationError(f"the active key {self.active!r} is not among the keys: {', '.join(self.keys)}")


class Sealer:
    """Encrypt and decrypt payloads. Thread-safe."""

    def __init__(self, encryption: Encryption) -> None:
        self._keys = encryption.keys
        self._ciphers: dict[str, Any] = {}
        self.active = encryption.active
        self.required = encryption.required

    def seal(self, ref: Ref, payload: bytes, headers: Mapping[str, Any]) -> bytes:
        """Encrypt a payload with the active key.

        Returns the nonce, the ciphertext and the tag.

        Raises:
            SerializationError: the payload is too large.
        """
        nonce = urandom(_NONCE_BYTES)
        try:
            sealed: bytes = self._cipher(self.active).encrypt(nonce, payload, _bound(ref, headers))
        except OverflowError as exc:
            raise SerializationError(f"{len(payload)} bytes are too many to encrypt at once: {exc}") from exc
        return nonce + sealed

    def open(self, record: Record) -> bytes:
        """Decrypt the payload of a record.

        Raises:
            CorruptError: the key is not in the ring, or authentication fails.
        """
        from cryptography.exceptions import InvalidTag

        key_id = self._key_id(record)
        sealed = record.payload
        try:
            opened: bytes = self._cipher(key_id).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(record.ref, record.headers)
            )
        except (InvalidTag, ValueError) as exc:
            raise CorruptError(
                f"{record.ref} can't be decrypted with the key {key_id!r}: it was changed, copied from another "
                "record, or encrypted with another key of that id"
            ) from exc
        return opened

    def seal_file(self, ref: Ref, file: BinaryReader, headers: dict[str, Any]) -> SealedFile:
        """Return a file encrypted with the active key, to be read once.

        Adds the headers that ``open_file`` needs.
        """
        headers |= {"codecs": [FRAMES], "key_id": self.active, "salt": new_salt()}
        return SealedFile(FrameCipher(self._keys[self.active], headers["salt"], _bound(ref, headers)), file)

    def open_file(self, record: Record, file: BinaryIO) -> BinaryIO:
        """Return a decrypted file, to be read once.

        Raises:
            CorruptError: the key is not in the ring. Reading raises this too, as ``open`` does.
        """
        key_id, salt = self._key_id(record), record.headers.get("salt")
        try:
            cipher = FrameCipher(self._keys[key_id], str(salt), _bound(record.ref, record.headers))
        except ValueError as exc:
            raise CorruptError(f"{record.ref} can't be decrypted: its salt is damaged") from exc
        return io.BufferedReader(OpenedFile(cipher, file, str(record.ref)))

    def _key_id(self, record: Record) -> str:
        key_id = record.headers.get("key_id")
        if not isinstance(key_id, str) or key_id not in self._keys:
            raise CorruptError(f"{record.ref} is encrypted with the key {key_id!r}, which its storage does not have")
        return key_id

    def _cipher(self, key_id: str) -> Any:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            cipher = self._ciphers[key_id] = AESGCM(self._keys[key_id])
        return cipher


def _bound(ref: Ref, headers: Mapping[str, Any]) -> bytes:
    facts = [headers.get(name) for name in _BOUND]
    return ref.address + json.dumps(facts, separators=(",", ":")).encode()
