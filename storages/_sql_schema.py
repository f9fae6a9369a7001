"""The tables, and the statements on them as text that the driver takes."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import dialect, insert
from sqlalchemy.sql import ClauseElement

SCHEMA_VERSION: Final = 1

APPLICATION_ID: Final = 0x666C7731
"""Marks a database file as flowstore's: "flw1" in its header."""

metadata: Final = MetaData()

meta: Final = Table(
    "flowstore_meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

records: Final = Table(
    "flowstore_records",
    metadata,
    # Never given twice, so that a cursor can't step over a record that is stored after another one was deleted.
    Column("id", Integer, primary_key=True),
    Column("address", LargeBinary, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("flow_name", Text, nullable=False),
    Column("task_name", Text, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("run_id", Text),
    Column("revision", Integer, nullable=False),
    Column("stored_at", Float),
    Column("headers", Text, nullable=False),
    # A payload is in one of these two: JSON as text, so that SQLite's JSON functions can read it, all else as bytes.
    Column("value", Text),
    Column("payload", LargeBinary),
    sqlite_autoincrement=True,
)

# SQLite adds the row's id to each index, so that rows of one run, task or kind of a flow come in the order of storing.
Index("flowstore_records_run", records.c.run_id, sqlite_where=records.c.run_id.is_not(None))
Index("flowstore_records_task", records.c.task_id)
Index("flowstore_records_kind", records.c.kind, records.c.flow_name)

_c: Final = records.c
_KEY = (_c.kind, _c.flow_name, _c.task_name, _c.task_id, _c.name)
_HEAD = (*_KEY, _c.revision, _c.headers)
_PAYLOAD = cast(func.coalesce(_c.value, _c.payload), LargeBinary)
_CONTENT = ("run_id", "stored_at", "headers", "value", "payload")
_NEXT: ColumnElement[int] = _c.revision + literal_column("1")
_dialect: Final = dialect()


def _text(statement: ClauseElement, column_keys: list[str] | None = None) -> str:
    return str(statement.compile(dialect=_dialect, column_keys=column_keys))


class Statements:
    """SQL text for the driver, compiled once; parameters go by position, in the order of the columns."""

    def __init__(self) -> None:
        first = insert(records).values(revision=literal_column("1"))
        inserted = ["address", *(column.name for column in _KEY), *_CONTENT]
        found = _c.address == bindparam("at_address")
        at_revision = _c.revision == bindparam("at_revision")
        self.get = _text(select(*_HEAD, _PAYLOAD).where(found))
        self.get_headers = _text(select(*_HEAD).where(found))
        self.upsert = _text(
            first.on_conflict_do_update(
                index_elements=[_c.address],
                set_={"revision": _NEXT, **{name: first.excluded[name] for name in _CONTENT}},
            ).returning(_c.revision),
            inserted,
        )
        self.insert = _text(first.on_conflict_do_nothing(index_elements=[_c.address]).returning(_c.revision), inserted)
        self.replace = _text(
            update(records).values(revision=_NEXT).where(found, at_revision).returning(_c.revision), list(_CONTENT)
        )
        self.delete = _text(delete(records).where(found).returning(_c.id))
        self.delete_revision = _text(delete(records).where(found, at_revision).returning(_c.id))

    def get_many(self, count: int) -> tuple[str, int]:
        """Return the statement that reads ``count`` addresses or a few more, and how many it takes."""
        rounded = 1 << (count - 1).bit_length()
        return _get_many(rounded), rounded

    def scan(self, kinds: int, fields: tuple[str, ...], descending: bool, cursor: bool, payload: bool) -> str:
        """Return the statement that reads a page: its parameters are kinds, fields, the cursor if any, the limit."""
        return _scan(kinds, fields, descending, cursor, payload)


@cache
def _get_many(count: int) -> str:
    addresses: list[BindParameter[bytes]] = [bindparam(f"address_{number}") for number in range(count)]
    return _text(select(_c.address, *_HEAD, _PAYLOAD).where(_c.address.in_(addresses)))


@lru_cache(maxsize=256)
def _scan(kinds: int, fields: tuple[str, ...], descending: bool, cursor: bool, payload: bool) -> str:
    order = _c.id.desc() if descending else _c.id.asc()
    # SQLAlchemy writes an OFFSET behind each LIMIT: as a constant it is no parameter.
    page = select(_c.id).order_by(order).limit(bindparam("size")).offset(literal_column("0"))
    if kinds:
        page = page.where(_c.kind.in_([bindparam(f"kind_{number}") for number in range(kinds)]))
    for field in fields:
        page = page.where(_c[field] == bindparam(f"the_{field}"))
    if cursor:
        at: BindParameter[int] = bindparam("cursor")
        page = page.where(_c.id < at if descending else _c.id > at)
    # Where the page has to be sorted, only ids are: the rows, which may be long, are read for those of the page.
    columns = (_c.id, *_HEAD, _PAYLOAD) if payload else (_c.id, *_HEAD)
    return _text(select(*columns).where(_c.id.in_(page)).order_by(order))
