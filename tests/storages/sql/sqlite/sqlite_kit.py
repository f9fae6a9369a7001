"""What the tests of SQLite share."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from flowstore.storages import SqlStorage
from tests.servers import met


def sql(path: Path, **configuration: Any) -> SqlStorage:
    met.note("SqlStorage", met.SQLITE)
    return SqlStorage(f"sqlite:///{path}", **configuration)


def look(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()
