"""Encryption of files in frames, for what doesn't fit in memory.

No frame can be left out, moved or added: each is authenticated with its number and whether it is the last one. Each
blob has its own key, derived from the storage's key and a salt.
"""

from __future__ import annotations

import hashlib
import hmac
from os import urandom
from typing import Any, BinaryIO, Final

from flowstore.encoding.stream import BinaryReader, ChunkStream
from flowstore.errors import CorruptError

FRAMES: Final = "aes-256-gcm-frames"
_FRAME: Final = 64 * 1024
_TAG: Final = 16
_SALT: Final = 32
_PURPOSE: Final = b"flowstore blob\0"


def new_salt() -> str:
    """Return a random salt for a blob's key."""
    return urandom(_SALT).hex()


def plain_size(sealed_size: int) -> int:
    """Return the plaintext size of a ciphertext of this size."""
    return sealed_size - _TAG * -(-sealed_size // (_FRAME + _TAG))


class FrameCipher:
    """Seal and open the frames of one blob.

    Args:
        key: the storage's key.
        salt: from ``new_salt``.
        bound: data that is authenticated with each frame.

    Raises:
        ValueError: the salt is invalid.
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
    """A file that is encrypted as it is read.

    ``plain_size`` counts the bytes read from the original.
    """

    def __init__(self, cipher: FrameCipher, file: BinaryReader) -> None:
        self._cipher = cipher
        self._file = file
        self._number = 0
        self._next: bytes | None = None
        self._buffer = b""
        self.plain_size = 0

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; ``b""`` at end of file."""
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


class OpenedFile(ChunkStream):
    """An encrypted file that is decrypted as it is read.

    Raises:
        CorruptError: by reading: a frame is damaged, missing, added, or from another blob.
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

    def _next_chunk(self) -> bytes:
        from cryptography.exceptions import InvalidTag

        sealed = _filled(self._file, _FRAME + _TAG) if self._sealed is None else self._sealed
        if self._number and not sealed:
            return b""
        self._sealed = _filled(self._file, _FRAME + _TAG)
        try:
            frame = self._cipher.open(self._number, sealed, not self._sealed)
        except (InvalidTag, ValueError) as exc:
            raise CorruptError(f"{self._name} can't be decrypted: it was changed, or copied from another blob") from exc
        self._number += 1
        return frame


def _filled(file: BinaryReader, size: int) -> bytes:
    """Read exactly ``size`` bytes, fewer only at end of file."""
    parts: list[bytes] = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
