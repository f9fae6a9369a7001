"""Exclude other writers of a folder, in this and other processes."""

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
        opened: opens the folder, and makes it where it is not there.
        timeout: seconds to wait for other writers.

    Raises:
        UnreachableError: another writer has kept the lock for so long.
    """
    while True:
        folder = opened()
        try:
            _lock(folder, path, timeout)
            try:
                # Meanwhile another one may have been put in its place: what is written here would be seen by nobody.
                if _is_at(folder, path):
                    yield folder
                    return
            finally:
                # Closing would not do where a child that was forked meanwhile holds a copy of the descriptor.
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
                    "stopped (SIGSTOP, a frozen container) keeps it: let it go on, or end it; lslocks shows which"
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
