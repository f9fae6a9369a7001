"""SqlStorage on MySQL or MariaDB next to PyMySQL: a held connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.adapters import sql
from benchmarks.adapters.contenders import CELERY, OURS, RAW, CelerysOwn, Contender, Ours, PerThread, Subject, closing
from tests.servers import mysql

_PUT = (
    f"INSERT INTO {sql.RAW_TABLE} ({sql.COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " ON DUPLICATE KEY UPDATE revision = revision + 1, stored_at = VALUES(stored_at), value = VALUES(value)"
)
_GET = f"SELECT value FROM {sql.RAW_TABLE} WHERE address = %s"
_GET_MANY = f"SELECT address, value FROM {sql.RAW_TABLE} WHERE address IN %s"

MISSING = None if mysql.GIVEN or mysql.find() else mysql.MISSING


class _PyMySql(Contender):
    def __init__(self, url: str) -> None:
        database = urlsplit(url).path[1:]
        with mysql.client(url, database=database) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {sql.RAW_TABLE}")
            cursor.execute(f"CREATE TABLE {sql.RAW_TABLE} LIKE {sql.TABLE}")
        self._connections = PerThread(
            lambda: mysql.client(url, database=database, charset="utf8mb4"), lambda connection: connection.close()
        )

    def store(self, task_id: str, value: Any) -> None:
        self._connections.get().cursor().execute(_PUT, sql.row(task_id, value))

    def retrieve(self, task_id: str) -> Any:
        cursor = self._connections.get().cursor()
        cursor.execute(_GET, (sql.address(task_id),))
        return orjson.loads(cursor.fetchall()[0][0])

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        connection = self._connections.get()
        connection.begin()
        with connection.cursor() as cursor:
            cursor.executemany(_PUT, sql.rows(items))
        connection.commit()

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        wanted = [sql.address(task_id) for task_id in task_ids]
        cursor = self._connections.get().cursor()
        cursor.execute(_GET_MANY, (wanted,))
        found = dict(cursor.fetchall())
        return [orjson.loads(found[one]) for one in wanted]

    def close(self) -> None:
        self._connections.close()


@contextmanager
def subject() -> Iterator[Subject]:
    """Yield the contenders."""
    with mysql.url() as url:
        contenders: dict[str, Contender] = {OURS: Ours("SqlStorage", {"connection_string": url})}
        contenders |= {
            RAW: _PyMySql(url),
            CELERY: CelerysOwn(url.replace("mysql://", "db+mysql+pymysql://", 1)),
        }
        notes = ["Celery's column holds 64 KB on MySQL: it is left out at 1 MB."]
        with closing(Subject("mysql", str(mysql.describe()), contenders, notes, {(CELERY, "1 MB")})) as made:
            yield made
