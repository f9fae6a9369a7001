"""The statements on the tables as text that a driver takes, each compiled once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from sqlalchemy import ColumnElement, LargeBinary, and_, bindparam, cast, delete, func, or_, select, update
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement, literal_column

from flowstore.record import Query
from flowstore.storages._sql_schema import records

_c: Final = records.c
_KEY: Final = (_c.kind, _c.flow_name, _c.task_name, _c.task_id, _c.name)
_HEAD: Final = (*_KEY, _c.revision, _c.headers)

CONTENT: Final = ("run_id", "state", "stored_at", "expires_at", "headers", "value", "payload")
"""The columns that a replacement changes, besides the revision."""

INSERTED: Final = ("address", *(column.name for column in _KEY), *CONTENT)
"""The parameters of ``upsert`` and, before the time that it is now, of ``insert``."""

NEXT: Final[ColumnElement[int]] = _c.revision + literal_column("1")

_FIELDS: Final = ("flow_name", "task_name", "task_id", "run_id")
_LISTS: Final = {"kinds": "kind", "task_ids": "task_id", "states": "state"}
_TIMES: Final = {
    "stored_from": _c.stored_at >= bindparam("stored_from"),
    "stored_before": _c.stored_at < bindparam("stored_before"),
    "live_at": or_(_c.expires_at.is_(None), _c.expires_at > bindparam("live_at")),
    "expired_at": _c.expires_at <= bindparam("expired_at"),
}


class Compiled(NamedTuple):
    """A statement and its parameters' names, in the order in which the driver takes them."""

    sql: str
    names: tuple[str, ...]

    def values(self, values: dict[str, Any]) -> list[Any]:
        return [values[name] for name in self.names]


class Shape(NamedTuple):
    """All of a query that its statement depends on: which conditions there are, not what they compare with."""

    fields: tuple[str, ...]
    lists: tuple[tuple[str, int], ...]
    times: tuple[str, ...]
    descending: bool = False


class Statements(ABC):
    """The statements of one database. Parameters go by position, in the order of ``INSERTED``, address, revision, now.

    ``key`` turns a text that identifies a record into what the database keeps.
    """

    dialect: ClassVar[Dialect]
    payload: ClassVar[ColumnElement[bytes]] = cast(func.coalesce(_c.value, _c.payload), LargeBinary)

    def __init__(self, key: Callable[[str], str | bytes]) -> None:
        self._key = key
        self._cache: dict[object, Compiled] = {}
        found = _c.address == bindparam("at_address")
        at_revision = _c.revision == bindparam("at_revision")
        live = or_(_c.expires_at.is_(None), _c.expires_at > bindparam("now"))
        self.get = self.text(select(*_HEAD, self.payload).where(found))
        self.get_headers = self.text(select(*_HEAD).where(found))
        self.upsert = self._upsert()
        self.insert = self._insert()
        self.replace = self.text(update(records).values(revision=NEXT).where(found, at_revision, live), CONTENT)
        self.delete = self.text(delete(records).where(found))
        self.delete_revision = self.text(delete(records).where(found, at_revision))

    @abstractmethod
    def _upsert(self) -> str:
        """Compile the statement that writes a record in any case."""

    @abstractmethod
    def _insert(self) -> str:
        """Compile the statement that writes a record only where there is none, or an expired one."""

    def get_many(self, addresses: Sequence[bytes]) -> tuple[str, list[Any]]:
        """Return a statement that reads records, each row starting with its address, and its parameters."""
        values = self._values_of_list("address", addresses)
        compiled = self._compiled(
            ("get", len(values)),
            lambda: select(_c.address, *_HEAD, self.payload).where(self._among("address", len(values))),
        )
        return compiled.sql, compiled.values(values)

    def revisions(self, addresses: Sequence[bytes]) -> tuple[str, list[Any]]:
        """Return a statement that reads addresses and revisions, and its parameters."""
        values = self._values_of_list("address", addresses)
        compiled = self._compiled(
            ("revisions", len(values)),
            lambda: select(_c.address, _c.revision).where(self._among("address", len(values))),
        )
        return compiled.sql, compiled.values(values)

    def delete_many(self, addresses: Sequence[bytes]) -> tuple[str, list[Any]]:
        """Return a statement that deletes records, and its parameters."""
        values = self._values_of_list("address", addresses)
        compiled = self._compiled(
            ("delete", len(values)), lambda: delete(records).where(self._among("address", len(values)))
        )
        return compiled.sql, compiled.values(values)

    def count(self, query: Query) -> tuple[str, list[Any]]:
        """Return a statement that counts the selected records, and its parameters."""
        shape, values = self._split(query)
        compiled = self._compiled(
            ("count", shape), lambda: select(func.count()).select_from(records).where(*self._where(shape))
        )
        return compiled.sql, compiled.values(values)

    def scan(self, query: Query, after: int | None, limit: int, payload: bool) -> tuple[str, list[Any]]:
        """Return a statement that reads a page, in no order, each row starting with its id, and its parameters."""
        shape, values = self._split(query)
        values |= {"after": after, "size": limit}
        compiled = self._compiled(
            ("scan", shape, after is None, payload), lambda: self._scan(shape, after is not None, payload)
        )
        return compiled.sql, compiled.values(values)

    def _scan(self, shape: Shape, after: bool, payload: bool) -> ClauseElement:
        order = self._order(shape)
        # SQLAlchemy writes an OFFSET behind each LIMIT for SQLite: as a constant it is no parameter.
        page = select(_c.id).where(*self._where(shape)).order_by(order.desc() if shape.descending else order.asc())
        page = page.limit(bindparam("size")).offset(literal_column("0"))
        if after:
            at = bindparam("after", type_=_c.id.type)
            page = page.where(_c.id < at if shape.descending else _c.id > at)
        # Only ids are sorted, never the rows, which may be long: those of the page are read when it is known.
        ids = page.subquery("page")
        columns = (_c.id, *_HEAD, self.payload) if payload else (_c.id, *_HEAD)
        return select(*columns).join_from(ids, records, _c.id == ids.c.id)

    def _order(self, shape: Shape) -> ColumnElement[int]:
        return _c.id

    def _split(self, query: Query) -> tuple[Shape, dict[str, Any]]:
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
        times = tuple(name for name in _TIMES if getattr(query, name) is not None)
        for name in times:
            values[name] = getattr(query, name)
        return Shape(fields, tuple(lists), times, query.descending), values

    def _where(self, shape: Shape) -> list[ColumnElement[bool]]:
        return [
            *(self._same(name) for name in shape.fields),
            *(self._among(name, count, f"any_{name}") for name, count in shape.lists),
            *(_TIMES[name] for name in shape.times),
        ]

    def _same(self, column: str) -> ColumnElement[bool]:
        """Compare a column of text with the parameter of its name."""
        return _c[column] == bindparam(column)

    def _among(self, column: str, count: int, name: str | None = None) -> ColumnElement[bool]:
        """Compare a column with the parameters that ``_values_of_list`` gives."""
        return _c[column].in_([bindparam(f"{name or column}_{number}") for number in range(count)])

    def _values_of_list(self, name: str, values: Sequence[Any]) -> dict[str, Any]:
        # Filled up to a power of two, so that there are few different statements.
        size = 1 << (len(values) - 1).bit_length()
        return {f"{name}_{number}": values[min(number, len(values) - 1)] for number in range(size)}

    def text(self, statement: ClauseElement, column_keys: Sequence[str] | None = None) -> str:
        """Compile a statement."""
        keys = None if column_keys is None else list(column_keys)
        return str(statement.compile(dialect=self.dialect, column_keys=keys))

    def _compiled(self, key: object, build: Callable[[], ClauseElement]) -> Compiled:
        compiled = self._cache.get(key)
        if compiled is None:
            if len(self._cache) >= _SHAPES:
                self._cache.clear()
            made: Any = build().compile(dialect=self.dialect)
            compiled = self._cache[key] = Compiled(str(made), tuple(made.positiontup))
        return compiled


_SHAPES: Final = 500


class OnConflict(Statements):
    """The statements of the databases that know ON CONFLICT and RETURNING: SQLite and PostgreSQL."""

    insertion: ClassVar[Callable[..., Any]]

    def _on_conflict(self, condition: ColumnElement[bool] | None) -> str:
        first = type(self).insertion(records).values(self._numbering())
        return self.text(
            first.on_conflict_do_update(
                index_elements=[_c.address],
                set_={"revision": NEXT, **{name: first.excluded[name] for name in CONTENT}},
                where=condition,
            ).returning(_c.revision),
            INSERTED,
        )

    def _numbering(self) -> dict[str, ColumnElement[int]]:
        """Return the expression of a new row's id, where the database does not make one by itself."""
        return {}

    def _upsert(self) -> str:
        return self._on_conflict(None)

    def _insert(self) -> str:
        return self._on_conflict(and_(_c.expires_at <= bindparam("now")))
