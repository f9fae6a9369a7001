"""Checks of a SQLite file before it is opened: whose database it is."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable
from urllib.parse import quote

from flowstore.errors import CorruptError, StorageError, UnreachableError

from ..schema import VERSION, check_version, metadata

TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"


def holds_records(path: str) -> bool:
    """Return whether a file holds flowstore's tables, without changing or locking anything.

    Raises:
        StorageError, CorruptError, UnreachableError: it holds something else.
        sqlite3.DatabaseError: it can't be read.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise UnreachableError(f"can't open {path}: the folder {folder} does not exist")
    for last in (False, False, True):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode):
            raise UnreachableError(f"can't open {path}: it is not a file")
        if not status.st_size:
            return False
        # SQLite itself would take a file smaller than its smallest page for an empty one, and overwrite it.
        if status.st_size < 512:
            raise CorruptError(f"{path} is damaged, or is not a SQLite database (it has {status.st_size} bytes)")
        in_wal, in_change = os.path.exists(f"{path}-wal"), os.path.exists(f"{path}-journal")
        try:
            is_ours = _peek(path)
        except sqlite3.DatabaseError:
            # Reading without locks may hit another process's write; then opening it with locks decides.
            if in_wal or in_change:
                return True
            if last:
                raise
        else:
            if in_wal and not is_ours:
                raise StorageError(f"{path} is a database of another program, which may be using it; it was left alone")
            return is_ours
    raise AssertionError("the last round returns or raises")


def _peek(path: str) -> bool:
    # Immutable: SQLite then locks, recovers and creates nothing.
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)
    try:
        is_ours = check_tables([name for (name,) in connection.execute(TABLES)], path)
        if is_ours:
            check_version(next(connection.execute(VERSION), (None,))[0], path)
        return is_ours
    finally:
        connection.close()


def check_tables(tables: Iterable[str], path: str | None) -> bool:
    """Return whether tables are flowstore's; refuse those of another program."""
    found = set(tables)
    if set(metadata.tables) <= found:
        return True
    if found:
        raise StorageError(f"{path} is a database of another program (it has no flowstore tables); it was left alone")
    return False
