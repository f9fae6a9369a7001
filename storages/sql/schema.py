"""The tables, the same in every database as far as their types allow."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    literal_column,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from flowstore.errors import CorruptError, StorageError

SCHEMA_VERSION: Final = 1

START: Final = 255
"""Characters (in MySQL: bytes) of a long text that an index holds."""

_NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")
# No collation that MySQL and MariaDB share distinguishes "a" from "a ": only bytes are compared exactly.
# In PostgreSQL the collation C compares code points, not by a language's rules.
_NAME: Final = (
    Text().with_variant(mysql.MEDIUMBLOB(), "mysql").with_variant(postgresql.TEXT(collation="C"), "postgresql")
)
_ADDRESS: Final = LargeBinary().with_variant(mysql.BINARY(32), "mysql")
_TEXT: Final = Text().with_variant(mysql.LONGTEXT(), "mysql")
_BYTES: Final = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_row_format": "DYNAMIC",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

metadata: Final = MetaData()

meta: Final = Table(
    "flowstore_meta",
    metadata,
    Column("name", Text().with_variant(mysql.VARCHAR(64), "mysql"), primary_key=True),
    Column("value", Text, nullable=False),
    **_OPTIONS,
)

records: Final = Table(
    "flowstore_records",
    metadata,
    # Never used twice, so that a cursor can't skip a record that is stored after another one was deleted.
    # In SQLite the statements ensure that: AUTOINCREMENT would change one page more with each record.
    Column("id", _NUMBER, Identity(), primary_key=True, autoincrement=True),
    Column("address", _ADDRESS, nullable=False, unique=True),
    Column("kind", _NAME, nullable=False),
    Column("flow_name", _NAME, nullable=False),
    Column("task_name", _NAME, nullable=False),
    Column("task_id", _NAME, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("run_id", _NAME),
    Column("state", _NAME),
    Column("revision", _NUMBER, nullable=False, server_default="1"),
    Column("stored_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("headers", _TEXT, nullable=False),
    # A payload is in one of these: JSON as text, for the database's own functions, everything else as bytes.
    Column("value", _TEXT),
    Column("payload", _BYTES),
    **_OPTIONS,
)

_c: Final = records.c


def start(text: ColumnElement[Any]) -> ColumnElement[str]:
    """Return the prefix of a text that PostgreSQL's indexes hold."""
    return func.left(text, literal_column(str(START)))


# SQLite and InnoDB add the row's id to each index, so that the rows of one run come in the order of storing.
_INDEXES: Final = (
    Index("flowstore_records_run", _c.run_id, sqlite_where=_c.run_id.is_not(None), mysql_length=START),
    Index("flowstore_records_task", _c.task_id, mysql_length=START),
    Index("flowstore_records_kind", _c.kind, _c.flow_name, mysql_length=START),
    Index("flowstore_records_expiry", _c.expires_at, sqlite_where=_c.expires_at.is_not(None)),
)
_INDEXES_OF_POSTGRESQL: Final = (
    Index("flowstore_records_run", start(_c.run_id), _c.id, postgresql_where=_c.run_id.is_not(None)),
    Index("flowstore_records_task", start(_c.task_id), _c.id),
    Index("flowstore_records_kind", start(_c.kind), start(_c.flow_name), _c.id),
    Index("flowstore_records_expiry", _c.expires_at, postgresql_where=_c.expires_at.is_not(None)),
)


def creation(dialect: Dialect) -> list[str]:
    """Return the statements that create the tables and their indexes."""
    indexes = _INDEXES_OF_POSTGRESQL if dialect.name == "postgresql" else _INDEXES
    elements: list[DDLElement] = [CreateTable(meta), CreateTable(records), *(CreateIndex(index) for index in indexes)]
    return [str(element.compile(dialect=dialect)).strip() for element in elements]


VERSION: Final = f"SELECT value FROM {meta.name} WHERE name = 'schema'"
SET_VERSION: Final = f"INSERT INTO {meta.name} (name, value) VALUES ('schema', '{SCHEMA_VERSION}')"


def check_version(version: object, where: object) -> None:
    """Raise if this version of flowstore does not know the version of the tables."""
    if version == str(SCHEMA_VERSION):
        return
    if isinstance(version, str) and version.isdecimal() and int(version) > SCHEMA_VERSION:
        raise CorruptError(
            f"{where} was written by a newer flowstore (schema {version}); this version reads schema {SCHEMA_VERSION}"
        )
    if isinstance(version, str) and version.isdecimal():
        raise StorageError(
            f"{where} was written by an older flowstore (schema {version}); this version needs schema {SCHEMA_VERSION}:"
            " stop what uses it and run 'flowstore schema upgrade'"
        )
    raise CorruptError(f"{where} has the unknown schema version {version!r}; this version reads {SCHEMA_VERSION}")
