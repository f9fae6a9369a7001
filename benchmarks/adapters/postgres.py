"""SqlStorage on PostgreSQL next to psycopg: a held connection, prepared statements, binary results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import psycopg

from benchmarks.adapters import sql
from benchmarks.adapters.contenders import CELERY, OURS, RAW, CelerysOwn, Contender, Ours, PerThread, Subject, closing
from tests.servers import postgres

_PUT = (
    f"INSERT INTO {sql.RAW_TABLE} ({sql.COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
    f" ON CONFLICT (address) DO UPDATE SET revision = {sql.RAW_TABLE}.revision + 1,"
    " stored_at = excluded.stored_at, value = excluded.value"
)
# As bytes: the fastest way to JSON.
_VALUE = "convert_to(value, 'UTF8')"
_GET = f"SELECT {_VALUE} FROM {sql.RAW_TABLE} WHERE address = %s"
_GET_MANY = f"SELECT address, {_VALUE} FROM {sql.RAW_TABLE} WHERE address = ANY(%s)"

MISSING = None if postgres.GIVEN or postgres.find() else postgres.MISSING


class _Psycopg(Contender):
    def __init__(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {sql.RAW_TABLE}")
            connection.execute(f"CREATE TABLE {sql.RAW_TABLE} (LIKE {sql.TABLE} INCLUDING ALL)")
        self._cursors = PerThread(
            lambda: psycopg.connect(url, autocommit=True, prepare_threshold=1).cursor(binary=True),
            lambda cursor: cursor.connection.close(),
        )

    def store(self, task_id: str, value: Any) -> None:
        self._cursors.get().execute(_PUT, sql.row(task_id, value))

    def retrieve(self, task_id: str) -> Any:
        cursor = self._cursors.get()
        cursor.execute(_GET, (sql.address(task_id),))
        [(payload,)] = cursor.fetchall()
        return orjson.loads(payload)

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        cursor = self._cursors.get()
        with cursor.connection.transaction():
            cursor.executemany(_PUT, sql.rows(items))

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        wanted = [sql.address(task_id) for task_id in task_ids]
        cursor = self._cursors.get()
        cursor.execute(_GET_MANY, (wanted,))
        found: dict[bytes, bytes] = dict(cursor.fetchall())
        return [orjson.loads(found[one]) for one in wanted]

    def close(self) -> None:
        self._cursors.close()


@contextmanager
def subject() -> Iterator[Subject]:
    """Yield the contenders."""
    with postgres.url() as url:
        contenders: dict[str, Contender] = {OURS: Ours("SqlStorage", {"connection_string": url})}
        contenders |= {
            RAW: _Psycopg(url),
            CELERY: CelerysOwn(url.replace("postgresql://", "db+postgresql+psycopg://", 1)),
        }
        with closing(Subject("postgres", str(postgres.describe()), contenders)) as made:
            yield made
