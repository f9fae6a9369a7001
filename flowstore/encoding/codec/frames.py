"""Encryption of what is too large to be in memory: in frames, of which none can be left out, moved or added.

A blob has a key of its own, derived from the storage's key and a salt. Each frame is sealed with its number and whether
it is the last one.
"""

from __future__ import annotations

import hashlib
import hmac
from os import urandom
from typing import Any, BinaryIO, Final, Protocol

from flowstore.encoding.parts import Parts
from flowstore.errors import CorruptError

FRAMES: Final = "aes-256-gcm-frames"
_FRAME: Final = 64 * 1024
_TAG: Final = 16
_SALT: Final = 32
_PURPOSE: Final = b"flowstore blob\0"


class Readable(Protocol):
    """What is read like a file that was opened in binary mode."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes, none of them only at the end."""


def new_salt() -> str:
    """Return what makes a blob's key its own."""
    return urandom(_SALT).hex()


def plain_size(sealed_size: int) -> int:
    """Return how many bytes a blob has that takes so many when it is encrypted."""
    return sealed_size - _TAG * -(-sealed_size // (_FRAME + _TAG))


class FrameCipher:
    """Seal and open the frames of one blob.

    Args:
        key: the storage's.
        salt: as ``new_salt`` made it.
        bound: what the frames belong to.

    Raises:
        ValueError: the salt is none.
    """

    def __init__(self, key: bytes, salt: str, bound: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        raw = bytes.fromhex(salt)
        if len(raw) != _SALT:
            raise ValueError(f"a salt of {len(raw)} bytes")
        self._cipher: Any = AESGCM(hmac.digest(key, _PURPOSE + raw, hashlib.sha256))
        self._bound = bound

    def seal(self, number: int, frame: bytes, last: bool) -> bytes:
        sealed: bytes = self._cipher.encrypt(_nonce(number, last), frame, self._bound)
        return sealed

    def open(self, number: int, sealed: bytes, last: bool) -> bytes:
        frame: bytes = self._cipher.decrypt(_nonce(number, last), sealed, self._bound)
        return frame


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11) + bytes([last])


class SealedFile:
    """Read a file encrypted; ``plain_size`` counts the bytes that were read from it."""

    def __init__(self, cipher: FrameCipher, file: Readable) -> None:
        self._cipher = cipher
        self._file = file
        self._number = 0
        self._next: bytes | None = None
        self._buffer = b""
        self.plain_size = 0

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes, none of them only at the end."""
        if not self._buffer:
            self._buffer = self._sealed()
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        return part

    def _sealed(self) -> bytes:
        frame = self._frame() if self._next is None else self._next
        if self._number and not frame:
            return b""
        self._next = self._frame()
        sealed = self._cipher.seal(self._number, frame, not self._next)
        self._number += 1
        return sealed

    def _frame(self) -> bytes:
        frame = _filled(self._file, _FRAME)
        self.plain_size += len(frame)
        return frame


class OpenedFile(Parts):
    """Read an encrypted file as it was.

    Raises:
        CorruptError: by reading: a frame is damaged, missing, added, or another blob's.
    """

    def __init__(self, cipher: FrameCipher, file: BinaryIO, name: str) -> None:
        super().__init__()
        self._cipher = cipher
        self._file = file
        self._name = name
        self._number = 0
        self._sealed: bytes | None = None

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _next(self) -> bytes:
        from cryptography.exceptions import InvalidTag

        sealed = _filled(self._file, _FRAME + _TAG) if self._sealed is None else self._sealed
        if self._number and not sealed:
            return b""
        self._sealed = _filled(self._file, _FRAME + _TAG)
        try:
            frame = self._cipher.open(self._number, sealed, not self._sealed)
        except (InvalidTag, ValueError) as exc:
            raise CorruptError(f"{self._name} can't be decrypted: it was changed, or moved here") from exc
        self._number += 1
        return frame


def _filled(file: Readable, size: int) -> bytes:
    """Read that many bytes, less only at the end."""
    parts: list[bytes] = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
