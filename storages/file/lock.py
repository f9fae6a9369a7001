"""Locking a folder against other writers, in all processes."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from flowstore.errors import UnreachableError

_SHORTEST: Final = 0.0005
_LONGEST: Final = 0.01


@contextmanager
def locked(path: str, opened: Callable[[], int], timeout: float) -> Iterator[int]:
    """Lock the folder at a path; yield its descriptor.

    Args:
        opened: opens the folder, and creates it if it is missing.
        timeout: seconds to wait for other writers.

    Raises:
        UnreachableError: another writer has kept the lock for so long.
    """
    while True:
        folder = opened()
        try:
            _lock(folder, path, timeout)
            try:
                # It may have been replaced in the meantime: no reader would see what is written here.
                if _is_at(folder, path):
                    yield folder
                    return
            finally:
                # Closing is not enough if a child that was forked in the meantime has a copy of the descriptor.
                fcntl.flock(folder, fcntl.LOCK_UN)
        finally:
            os.close(folder)


def _lock(folder: int, path: str, timeout: float) -> None:
    deadline, pause = time.monotonic() + timeout, _SHORTEST
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise UnreachableError(
                    f"can't write below {path}: another process has held its lock for {timeout:g} s. One that is "
                    "stopped (SIGSTOP, a frozen container) keeps it: resume it, or end it; lslocks shows which"
                ) from None
            time.sleep(min(left, random.uniform(0, pause)))
            pause = min(2 * pause, _LONGEST)
        else:
            return


def _is_at(folder: int, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(folder))
    except FileNotFoundError:
        return False
