"""The files of a SQLite database: created for their owner only, and checked while they are in use."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NoReturn

from flowstore.errors import OutcomeUnknownError, StorageError, UnreachableError

MODE = 0o600


def make_private(path: str) -> None:
    """Create an empty file that only its owner may use; leave an existing one as it is.

    SQLite gives the files beside it the same mode. If it can't be created, SQLite reports why.
    """
    try:
        # Never opened: closing a file releases all locks that this process has on it, in all threads.
        os.mknod(path, MODE)
    except FileExistsError:
        pass
    except OSError:
        # Some systems allow only root to do so.
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, MODE))


def identity(path: str) -> tuple[int, int] | None:
    """Return what identifies a file whatever its name; None if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Files:
    """The files that a connection has opened: SQLite keeps using them when they are deleted or replaced.

    A check takes one or two microseconds per file.
    """

    __slots__ = ("_log", "_log_path", "_path", "main")

    def __init__(self, path: str) -> None:
        self._path, self.main = path, identity(path)
        self._log_path = f"{os.path.realpath(path)}-wal"
        self._log = identity(self._log_path)

    def are_there(self) -> bool:
        """Return whether the database file is still at its path."""
        return identity(self._path) == self.main

    def are_all_there(self) -> bool:
        """Return whether the database file and its log, if any, are still at their paths."""
        return identity(self._path) == self.main and (self._log is None or identity(self._log_path) == self._log)

    def refuse(self, after_writing: bool) -> NoReturn:
        """Raise what has happened to the files.

        Raises:
            UnreachableError: the database was deleted; after writing, ``OutcomeUnknownError``.
            StorageError: there is another file now.
        """
        found = identity(self._path)
        if found is None:
            kind = OutcomeUnknownError if after_writing else UnreachableError
            raise kind(f"{self._path} was deleted while it was in use: what was stored may be lost; put the file back")
        if found == self.main:
            raise StorageError(
                f"{self._log_path} was deleted or replaced while it was in use: what was stored last may be lost"
            )
        raise StorageError(
            f"{self._path} was replaced while it was in use: what was stored may be in the former file alone;"
            " the next call uses the file that is there now"
        )
