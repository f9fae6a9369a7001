"""SQLite's statements, and the Python functions that they call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson
from sqlalchemy import Boolean, ColumnElement, bindparam, func, literal_column, select
from sqlalchemy.dialects.sqlite import dialect, insert

from flowstore.record.matching import Scalar, matches_fields, matches_pattern

from ..conditions import QueryShape
from ..schema import records
from ..statements import OnConflict


class SqliteStatements(OnConflict):
    """SQLite's statements."""

    dialect = dialect()
    insertion = insert
    list_of_pairs = "VALUES"

    @classmethod
    def _numbering(cls) -> dict[str, ColumnElement[int]]:
        # The clock keeps an id from being used again after the latest record was deleted.
        latest = func.coalesce(select(func.max(records.c.id)).scalar_subquery(), literal_column("0"))
        return {"id": func.max(latest + literal_column("1"), bindparam("at_least"))}

    def _order(self, shape: QueryShape) -> ColumnElement[int]:
        # Few have expired: without the plus, SQLite would read all rows by id instead of the index.
        return literal_column("+flowstore_records.id") if "expired_at" in shape.times else super()._order(shape)

    def _is_like(self) -> ColumnElement[bool]:
        return func.flowstore_like(records.c.task_id, bindparam("pattern_like"), type_=Boolean())

    def _like_values(self, pattern: str) -> dict[str, Any]:
        return {"pattern_like": pattern}

    def _split_fields(self, where: Mapping[str, Scalar]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ("where",), {"where": orjson.dumps(dict(where)).decode()}

    def _fields(self, where: tuple[Any, ...]) -> list[ColumnElement[bool]]:
        return [func.flowstore_has(records.c.value, bindparam("where"), type_=Boolean())] if where else []


def _has(value: str | None, where: str) -> bool:
    return value is not None and matches_fields(value, _conditions(where))


@lru_cache(maxsize=16)
def _conditions(where: str) -> dict[str, Scalar]:
    conditions: dict[str, Scalar] = orjson.loads(where)
    return conditions


# SQLite's own GLOB ends at a NUL, and so do the strings that its JSON functions return.
FUNCTIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {"flowstore_like": matches_pattern, "flowstore_has": _has}
"""Functions that every connection defines, by name; each takes two arguments."""
