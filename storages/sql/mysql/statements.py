"""The statements of MySQL and MariaDB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from sqlalchemy import (
    DECIMAL,
    ColumnElement,
    LargeBinary,
    Text,
    and_,
    bindparam,
    case,
    cast,
    collate,
    func,
    literal_column,
)
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.dialects.mysql.pymysql import dialect

from flowstore.errors import UnsupportedError
from flowstore.record import SortKey
from flowstore.record.matching import Scalar, field_path

from ..conditions import like
from ..schema import records
from ..statements import INSERTED, NEXT, REPLACED_COLUMNS, Statements

_c: Final = records.c
_ID: Final[ColumnElement[str]] = collate(
    literal_column(f"CONVERT({records.name}.task_id USING utf8mb4)", Text()), "utf8mb4_bin"
)
_STARS: Final = re.compile("[*]+")
_INTEGERS: Final[list[ColumnElement[str]]] = [literal_column("'INTEGER'"), literal_column("'UNSIGNED INTEGER'")]
_NUMBERS: Final = [*_INTEGERS, literal_column("'DOUBLE'"), literal_column("'DECIMAL'")]
SORTED: Final = 3072
"""Bytes of a task id that listings are sorted by: the session's max_sort_length."""


class MysqlStatements(Statements):
    """The statements of MySQL and MariaDB, which share no RETURNING: ``LAST_INSERT_ID(x)`` returns ``x``."""

    dialect = dialect()
    now_in_insert: Final = len(REPLACED_COLUMNS) + 1
    """How often ``insert`` takes the current time."""

    def _by_task_id(self, task_id: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        # A sort compares that many bytes only.
        return [func.left(task_id, literal_column(str(SORTED)), type_=task_id.type)]

    def sort_key(self, position: SortKey) -> tuple[bytes, bytes]:
        return position[0].encode()[:SORTED], position[1]

    def _is_like(self) -> ColumnElement[bool]:
        return _ID.like(bindparam("pattern_like", type_=Text()), escape="!")

    def _like_values(self, pattern: str) -> dict[str, Any]:
        return {"pattern_like": like(_STARS.sub("*", pattern))}

    def _split_fields(self, where: Mapping[str, Scalar]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values: dict[str, Any] = {}
        kinds = []
        for number, (field, wanted) in enumerate(where.items()):
            keys = field_path(field)
            if any(key.startswith("-") for key in keys):
                # MariaDB takes it for a place counted from the end.
                raise UnsupportedError(
                    f"where: {field!r}: a key that begins with '-' is not supported by this database"
                )
            values[f"path_{number}"] = "$" + "".join(f".{orjson.dumps(key).decode()}" for key in keys)
            values[f"wanted_{number}"] = wanted.encode() if isinstance(wanted, str) else wanted
            kinds.append("null" if wanted is None else type(wanted).__name__)
        return tuple(kinds), values

    def _fields(self, where: tuple[Any, ...]) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = [func.json_valid(_c.value) == literal_column("1")] if where else []
        return conditions + [_field(number, kind) for number, kind in enumerate(where)]

    @classmethod
    def _upsert(cls) -> str:
        first = insert(records)
        new = first.inserted
        changes = [("revision", func.last_insert_id(NEXT)), *((name, new[name]) for name in REPLACED_COLUMNS)]
        return cls.text(first.on_duplicate_key_update(changes), INSERTED)

    @classmethod
    def _insert(cls) -> str:
        # Not a plain INSERT and then an UPDATE of what has expired: in between, the record may be deleted, and the
        # conflict would be with nothing.
        first = insert(records)
        new = first.inserted
        has_expired = _c.expires_at <= bindparam("now")
        # In this order: the column that the condition reads changes last.
        names = sorted(REPLACED_COLUMNS, key="expires_at".__eq__)
        changes = [
            ("revision", func.IF(has_expired, func.last_insert_id(NEXT), _c.revision)),
            *((name, func.IF(has_expired, new[name], _c[name])) for name in names),
        ]
        return cls.text(first.on_duplicate_key_update(changes), INSERTED)


def _field(number: int, kind: str) -> ColumnElement[bool]:
    """Compare one field of the value with its parameter, if they are of the same type."""
    # Older servers fail at what is no JSON, in whatever order conditions stand.
    json = case((func.json_valid(_c.value) == literal_column("1"), _c.value))
    found = func.json_extract(json, bindparam(f"path_{number}", type_=Text()))
    of_type, text = func.json_type(found), func.json_unquote(found)
    wanted: ColumnElement[Any] = bindparam(f"wanted_{number}")
    if kind == "null":
        return of_type == literal_column("'NULL'")
    if kind == "str":
        return and_(of_type == literal_column("'STRING'"), cast(text, LargeBinary) == wanted)
    if kind == "bool":
        return and_(of_type == literal_column("'BOOLEAN'"), (text == literal_column("'true'")) == wanted)
    as_float = and_(of_type.in_(_NUMBERS), text + literal_column("0") == wanted)
    if kind == "float":
        return as_float
    # As floats, large integers would equal their neighbours.
    return case((of_type.in_(_INTEGERS), cast(text, DECIMAL(65, 0)) == wanted), else_=as_float)
