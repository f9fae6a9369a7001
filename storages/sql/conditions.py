"""The conditions of a query in SQL, and the parameters that they compare with."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from sqlalchemy import ColumnElement, TextClause, bindparam, or_, text

from flowstore.record import PIECE, Query
from flowstore.record.matching import Scalar, literal_prefix, prefix_end

from .schema import records

_c: Final = records.c
_FIELDS: Final = ("flow_name", "task_name", "task_id", "run_id")
_LISTS: Final = {"kinds": "kind", "task_ids": "task_id", "states": "state"}
_TIMES: Final = {
    "stored_from": _c.stored_at >= bindparam("stored_from"),
    "stored_before": _c.stored_at < bindparam("stored_before"),
    "live_at": or_(_c.expires_at.is_(None), _c.expires_at > bindparam("live_at")),
    "expired_at": _c.expires_at <= bindparam("expired_at"),
}
_PATTERN: Final = ("pattern_from", "pattern_before", "pattern_like")
_TO_LIKE: Final = {"*": "%", "?": "_", "!": "!!", "%": "!%", "_": "!_"}


class QueryShape(NamedTuple):
    """What a query's statement depends on: which conditions it has, not the values compared with."""

    fields: tuple[str, ...]
    lists: tuple[tuple[str, int], ...]
    times: tuple[str, ...]
    pattern: tuple[str, ...]
    where: tuple[Any, ...]
    descending: bool
    by_task_id: bool
    skips: bool


def like(pattern: str) -> str:
    """Return a pattern for SQL's LIKE, with ``!`` as escape character."""
    return "".join(_TO_LIKE.get(character, character) for character in pattern)


class Conditions(ABC):
    """The conditions of one database; ``key`` returns what the database stores for a name."""

    list_of_pairs: ClassVar[str] = ""
    """The keyword before a list of rows."""

    def __init__(self, key: Callable[[str], str | bytes]) -> None:
        self._key = key

    def _split(self, query: Query) -> tuple[QueryShape, dict[str, Any]]:
        values: dict[str, Any] = {}
        fields = tuple(name for name in _FIELDS if getattr(query, name) is not None)
        for name in fields:
            values[name] = self._key(getattr(query, name))
        lists = []
        for name, column in _LISTS.items():
            if (wanted := getattr(query, name)) is not None:
                some = self._values_of_list(f"any_{column}", [self._key(one) for one in dict.fromkeys(wanted)])
                lists.append((column, len(some)))
                values |= some
        if query.kinds is None:
            values["piece"] = self._key(PIECE)
        times = tuple(name for name in _TIMES if getattr(query, name) is not None)
        for name in times:
            values[name] = getattr(query, name)
        pattern = {} if query.pattern is None else self._split_pattern(query.pattern)
        where, fields_values = self._split_fields(query.where) if query.where else ((), {})
        shape = QueryShape(
            fields,
            tuple(lists),
            times,
            tuple(pattern),
            where,
            query.descending,
            query.order == "task_id",
            query.skip > 0,
        )
        return shape, values | pattern | fields_values

    def _split_pattern(self, pattern: str) -> dict[str, Any]:
        """Return the parameters of a pattern; their names say which conditions apply."""
        start = literal_prefix(pattern)
        values: dict[str, Any] = {"pattern_from": self._key(start)} if start else {}
        bound = prefix_end(start)
        if bound is not None:
            values["pattern_before"] = self._key(bound)
        if len(values) < 2 or pattern.rstrip("*") != start or pattern == start:
            values |= self._like_values(pattern)
        return values

    def _where(self, shape: QueryShape) -> list[ColumnElement[bool]]:
        return [
            *(self._same(name) for name in shape.fields),
            *(self._among(name, count, f"any_{name}") for name, count in shape.lists),
            *(() if any(name == "kind" for name, _ in shape.lists) else (_c.kind != bindparam("piece"),)),
            *(_TIMES[name] for name in shape.times),
            *(self._pattern(name) for name in shape.pattern if name in _PATTERN),
            *self._fields(shape.where),
        ]

    def _at(self, name: str) -> ColumnElement[bool]:
        """Select by a time of that name."""
        return _TIMES[name]

    def _pattern(self, name: str) -> ColumnElement[bool]:
        """Select task ids by the prefix of a pattern, which an index can find, and by the pattern."""
        if name == "pattern_like":
            return self._is_like()
        return self._compared(operator.ge if name == "pattern_from" else operator.lt, name)

    def _compared(self, compare: Callable[[Any, Any], ColumnElement[bool]], parameter: str) -> ColumnElement[bool]:
        """Compare the task id with a parameter."""
        return compare(_c.task_id, bindparam(parameter, type_=_c.task_id.type))

    @abstractmethod
    def _is_like(self) -> ColumnElement[bool]:
        """Compare the task id with a pattern, by the parameters of ``_like_values``."""

    @abstractmethod
    def _like_values(self, pattern: str) -> dict[str, Any]:
        """Return the parameters of a pattern, ``pattern_like`` among them."""

    @abstractmethod
    def _split_fields(self, where: Mapping[str, Scalar]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what a statement that selects by fields depends on, and its parameters."""

    @abstractmethod
    def _fields(self, where: tuple[Any, ...]) -> list[ColumnElement[bool]]:
        """Select by fields of the value, by the parameters of ``_split_fields``."""

    def _same(self, column: str) -> ColumnElement[bool]:
        """Compare a column of text with the parameter of its name."""
        return _c[column] == bindparam(column)

    def _among(self, column: str, count: int, name: str | None = None) -> ColumnElement[bool]:
        """Compare a column with the parameters of ``_values_of_list``."""
        return _c[column].in_([bindparam(f"{name or column}_{number}") for number in range(count)])

    def _at_revisions(self, count: int) -> TextClause:
        """Select records at their revisions, by the parameters of ``_values_of_pairs``."""
        pairs = ", ".join(f"(:seen_{number}, :revision_{number})" for number in range(count))
        return text(f"(address, revision) IN ({self.list_of_pairs} {pairs})")

    def _values_of_pairs(self, pairs: Sequence[tuple[bytes, int]]) -> dict[str, Any]:
        addresses, revisions = zip(*pairs, strict=True)
        padded = Conditions._values_of_list(self, "seen", addresses)
        return padded | Conditions._values_of_list(self, "revision", revisions)

    def _values_of_list(self, name: str, values: Sequence[Any]) -> dict[str, Any]:
        # Padded to a power of two, so that there are few different statements.
        size = 1 << (len(values) - 1).bit_length()
        return {f"{name}_{number}": values[min(number, len(values) - 1)] for number in range(size)}
