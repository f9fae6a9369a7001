"""SqlStorage on SQLite next to the ``sqlite3`` module."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing as closing_connection
from contextlib import contextmanager
from typing import Any

import orjson

from benchmarks.adapters import sql
from benchmarks.adapters.contenders import CELERY, OURS, RAW, CelerysOwn, Contender, Ours, PerThread, Subject, closing

_PUT = (
    f"INSERT INTO {sql.TABLE} ({sql.COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (address) DO UPDATE"
    " SET revision = revision + 1, stored_at = excluded.stored_at, value = excluded.value"
)
_GET = f"SELECT value FROM {sql.TABLE} WHERE address = ?"


class _Sqlite(Contender):
    def __init__(self, path: str, synchronous: str, ours: str) -> None:
        self._path = path
        self._synchronous = synchronous
        with closing_connection(sqlite3.connect(ours)) as origin, closing_connection(sqlite3.connect(path)) as copy:
            copy.execute("PRAGMA journal_mode = WAL")
            schema = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
            for (statement,) in origin.execute(schema):
                copy.execute(statement)
        self._connections = PerThread(self._connect, sqlite3.Connection.close)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        return connection

    def store(self, task_id: str, value: Any) -> None:
        self._connections.get().execute(_PUT, sql.row(task_id, value))

    def retrieve(self, task_id: str) -> Any:
        return orjson.loads(self._connections.get().execute(_GET, (sql.address(task_id),)).fetchone()[0])

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        connection = self._connections.get()
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            connection.executemany(_PUT, sql.rows(items))

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        wanted = [sql.address(task_id) for task_id in task_ids]
        statement = f"SELECT address, value FROM {sql.TABLE} WHERE address IN ({', '.join('?' * len(wanted))})"
        found = dict(self._connections.get().execute(statement, wanted).fetchall())
        return [orjson.loads(found[one]) for one in wanted]

    def close(self) -> None:
        self._connections.close()


@contextmanager
def _subject(name: str, synchronous: str) -> Iterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="flowstore-bench-") as folder:
        ours = f"{folder}/ours.db"
        contenders: dict[str, Contender] = {
            OURS: Ours("SqlStorage", {"connection_string": f"sqlite:///{ours}", "synchronous": synchronous}),
        }
        contenders |= {
            RAW: _Sqlite(f"{folder}/raw.db", synchronous, ours),
            CELERY: CelerysOwn(f"db+sqlite:///{folder}/celery.db"),
        }
        server = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous={synchronous}"
        with closing(
            Subject(name, server, contenders, ["Celery leaves SQLite's default, the journal mode DELETE."])
        ) as made:
            yield made


@contextmanager
def durable() -> Iterator[Subject]:
    """Yield the contenders whose changes survive a loss of power."""
    with _subject("sqlite", "FULL") as made:
        yield made


@contextmanager
def fast() -> Iterator[Subject]:
    """Yield the contenders that wait for nothing: the driver's and flowstore's own work."""
    with _subject("sqlite-fast", "NORMAL") as made:
        yield made
