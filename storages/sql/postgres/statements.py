"""The statements of PostgreSQL."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    LargeBinary,
    Text,
    TextClause,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, dialect, insert
from sqlalchemy.engine import Dialect

from flowstore.record.matching import Scalar, field_path

from ..conditions import like
from ..schema import START, records, start
from ..statements import OnConflict

_INDEXED: Final = ("kind", "flow_name", "task_id", "run_id")

# PostgreSQL's text can't hold NUL, so it is escaped by a control character that names rarely contain. The order of
# texts stays the same.
_ESCAPE: Final = "\x01"
_ESCAPES: Final = {"\0": f"{_ESCAPE}\x01", _ESCAPE: f"{_ESCAPE}\x02"}
_ESCAPED: Final = {escaped: text for text, escaped in _ESCAPES.items()}
_TO_ESCAPE: Final = re.compile(f"[\0{_ESCAPE}]")
_TO_UNESCAPE: Final = re.compile(f"{_ESCAPE}[\x01\x02]")


def escape(text: str) -> str:
    """Replace NUL, so that different texts stay different."""
    if "\0" in text or _ESCAPE in text:
        return _TO_ESCAPE.sub(lambda found: _ESCAPES[found[0]], text)
    return text


def unescape(kept: str) -> str:
    """Return the text that was given to ``escape``."""
    if _ESCAPE in kept:
        return _TO_UNESCAPE.sub(lambda found: _ESCAPED[found[0]], kept)
    return kept


_c: Final = records.c
_LIKE: Final = bindparam("pattern_like", type_=Text())
_STARS: Final = re.compile("[*]+")
_ESCAPE_SQL: Final[ColumnElement[str]] = literal_column("U&'\\0001'")
_TO_REGEX: Final = re.compile("[^0-9A-Za-z\x80-\U0010ffff]")

# jsonb refuses a NUL in JSON text; it is replaced by U+FFFF, which is not a character.
_JSON: Final = (
    "CASE WHEN strpos(value, '\\u0000') = 0 THEN value"
    " ELSE regexp_replace(value, '(?<!\\\\)((\\\\\\\\)*)\\\\u0000', '\\1\\\\uffff', 'g') END"
)
_CHECKED_JSON: Final = f"CASE WHEN pg_input_is_valid({_JSON}, 'jsonb') THEN {_JSON} END"
CHECKS_JSON: Final = 16_00_00
"""The first version of PostgreSQL that can check whether a text is JSON."""


def _json_text(value: Scalar) -> Scalar:
    return value.replace("\0", "\uffff") if isinstance(value, str) else value


def _regex(found: re.Match[str]) -> str:
    """Turn what a pattern of escaped text has besides letters and digits into PostgreSQL's regular expression."""
    one = f"(?:[^{_ESCAPE}]|{_ESCAPE}.)"
    return {"*": f"{one}*", "?": one}.get(found[0], f"\\{found[0]}")


class PostgresStatements(OnConflict):
    """PostgreSQL's statements."""

    dialect: ClassVar[Dialect] = dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    insertion = insert
    checks_json = False  # older servers can't
    payload = func.coalesce(func.convert_to(records.c.value, literal_column("'UTF8'")), records.c.payload)

    def _by_task_id(self, task_id: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        return [start(task_id), task_id]

    def _compared(self, compare: Callable[[Any, Any], ColumnElement[bool]], parameter: str) -> ColumnElement[bool]:
        exact = super()._compared(compare, parameter)
        up_to = operator.ge if compare is operator.ge else operator.le
        return and_(up_to(start(_c.task_id), start(bindparam(parameter))), exact)

    def _is_like(self) -> ColumnElement[bool]:
        # In an escaped id, one character may be two.
        return case(
            (func.strpos(_c.task_id, _ESCAPE_SQL) == literal_column("0"), _c.task_id.like(_LIKE, escape="!")),
            else_=_c.task_id.regexp_match(bindparam("pattern_regex")),
        )

    def _like_values(self, pattern: str) -> dict[str, Any]:
        pattern = escape(_STARS.sub("*", pattern))
        return {"pattern_like": like(pattern), "pattern_regex": f"^{_TO_REGEX.sub(_regex, pattern)}$"}

    def _split_fields(self, where: Mapping[str, Scalar]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values: dict[str, Any] = {}
        depths = []
        for number, (field, wanted) in enumerate(where.items()):
            keys = field_path(field)
            depths.append(len(keys))
            values |= {f"key_{number}_{level}": _json_text(key) for level, key in enumerate(keys)}
            values[f"wanted_{number}"] = orjson.dumps(_json_text(wanted)).decode()
        return (self.checks_json, *depths), values

    def _fields(self, where: tuple[Any, ...]) -> list[ColumnElement[bool]]:
        conditions = []
        for number, depth in enumerate(where[1:]):
            found: ColumnElement[Any] = cast(literal_column(_CHECKED_JSON if where[0] else _JSON), JSONB)
            for level in range(depth):
                # As text, not bindparam's own type, so that it follows keys of objects only.
                found = found.op("->")(cast(bindparam(f"key_{number}_{level}"), Text))
            conditions.append(found == cast(bindparam(f"wanted_{number}", type_=Text()), JSONB))
        return conditions

    def _same(self, column: str) -> ColumnElement[bool]:
        exact = super()._same(column)
        if column not in _INDEXED:
            return exact
        return and_(start(records.c[column]) == start(bindparam(column)), exact)

    def _among(self, column: str, count: int, name: str | None = None) -> ColumnElement[bool]:
        name = name or column
        of = records.c[column]
        exact = of == any_(bindparam(name, type_=ARRAY(LargeBinary if column == "address" else Text)))
        if column not in _INDEXED:
            return exact
        return and_(start(of) == any_(bindparam(f"{name}_start", type_=ARRAY(Text))), exact)

    def _at_revisions(self, count: int) -> TextClause:
        return text(
            "(address, revision) IN (SELECT * FROM unnest(CAST(:seen AS bytea[]), CAST(:seen_revisions AS bigint[])))"
        )

    def _values_of_pairs(self, pairs: Sequence[tuple[bytes, int]]) -> dict[str, Any]:
        return {"seen": [address for address, _ in pairs], "seen_revisions": [revision for _, revision in pairs]}

    def _values_of_list(self, name: str, values: Sequence[Any]) -> dict[str, Any]:
        return {name: list(values), f"{name}_start": [value[:START] for value in values]}
