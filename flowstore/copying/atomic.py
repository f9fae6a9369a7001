"""Writing files atomically."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def atomic_write(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces ``path`` when the block ends.

    If the block raises, ``path`` is not changed. The file is written under an unpredictable name and only readable by
    its owner. A symbolic link at ``path`` is replaced, not followed.
    """
    beside = os.path.join(os.path.dirname(path), f".flowstore-{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(beside, _NEW, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(beside)
        raise
