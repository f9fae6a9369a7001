"""Writing a file that appears in its place when it is complete, whatever somebody else has put there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def appearing(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` at the end; none of it is there if the block raises.

    It is written under a name that nobody can know before, and only its user may read it. A link at ``path`` is
    replaced, not followed.
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
