"""The statements on the tables, each compiled once to the text that a driver takes."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from sqlalchemy import ColumnElement, LargeBinary, and_, bindparam, cast, delete, func, or_, select, update
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement, literal_column

from flowstore.record import Query, SortKey

from .conditions import Conditions, QueryShape
from .schema import records

_c: Final = records.c
_KEY: Final = (_c.kind, _c.flow_name, _c.task_name, _c.task_id, _c.name)
_HEAD: Final = (*_KEY, _c.revision, _c.headers)

REPLACED_COLUMNS: Final = ("run_id", "state", "stored_at", "expires_at", "headers", "value", "payload")
"""The columns that a replacement changes, besides the revision."""

INSERTED: Final = (
    "address",
    *(column.name for column in _KEY),
    *REPLACED_COLUMNS[:2],
    "revision",
    *REPLACED_COLUMNS[2:],
)
"""The parameters of ``upsert``; ``insert`` takes the current time after them."""

NEXT: Final[ColumnElement[int]] = _c.revision + literal_column("1")


class Compiled(NamedTuple):
    """A statement and its parameters' names, in the order in which the driver takes them."""

    sql: str
    names: tuple[str, ...]

    def values(self, values: dict[str, Any]) -> list[Any]:
        return [values[name] for name in self.names]


class Statements(Conditions):
    """The statements of one database. Parameters go by position, in the order of ``INSERTED``, address, revision, now.

    ``key`` returns what the database stores for a name.
    """

    dialect: ClassVar[Dialect]
    payload: ClassVar[ColumnElement[bytes]] = cast(func.coalesce(_c.value, _c.payload), LargeBinary)

    checks_json: bool = True
    """Whether the database can check that a text is JSON. If not, it fails at a value that only claims to be."""

    get: ClassVar[str]
    get_headers: ClassVar[str]
    upsert: ClassVar[str]
    insert: ClassVar[str]
    replace: ClassVar[str]
    delete: ClassVar[str]
    delete_revision: ClassVar[str]

    def __init__(self, key: Callable[[str], str | bytes]) -> None:
        super().__init__(key)
        self._cache: dict[object, Compiled] = {}

    def __init_subclass__(cls) -> None:
        # Compiling takes longer than connecting, so it is done at import, before a worker forks.
        super().__init_subclass__()
        if "dialect" not in vars(cls):
            return
        found = _c.address == bindparam("at_address")
        at_revision = _c.revision == bindparam("at_revision")
        live = or_(_c.expires_at.is_(None), _c.expires_at > bindparam("now"))
        cls.get = cls.text(select(*_HEAD, cls.payload).where(found))
        cls.get_headers = cls.text(select(*_HEAD).where(found))
        cls.upsert = cls._upsert()
        cls.insert = cls._insert()
        cls.replace = cls.text(update(records).values(revision=NEXT).where(found, at_revision, live), REPLACED_COLUMNS)
        cls.delete = cls.text(delete(records).where(found))
        cls.delete_revision = cls.text(delete(records).where(found, at_revision))

    @classmethod
    @abstractmethod
    def _upsert(cls) -> str:
        """Compile the statement that writes a record in any case."""

    @classmethod
    @abstractmethod
    def _insert(cls) -> str:
        """Compile the statement that writes a record only if it is missing or has expired."""

    def get_many(self, addresses: Sequence[bytes]) -> tuple[str, list[Any]]:
        """Return (sql, parameters) selecting records, each row starting with its address."""
        values = self._values_of_list("address", addresses)
        compiled = self._compiled(
            ("get", len(values)),
            lambda: select(_c.address, *_HEAD, self.payload).where(self._among("address", len(values))),
        )
        return compiled.sql, compiled.values(values)

    def revisions(self, addresses: Sequence[bytes]) -> tuple[str, list[Any]]:
        """Return (sql, parameters) selecting addresses and revisions."""
        values = self._values_of_list("address", addresses)
        compiled = self._compiled(
            ("revisions", len(values)),
            lambda: select(_c.address, _c.revision).where(self._among("address", len(values))),
        )
        return compiled.sql, compiled.values(values)

    def delete_many(self, addresses: Sequence[bytes]) -> tuple[str, list[Any]]:
        """Return (sql, parameters) deleting records."""
        values = self._values_of_list("address", addresses)
        compiled = self._compiled(
            ("delete", len(values)), lambda: delete(records).where(self._among("address", len(values)))
        )
        return compiled.sql, compiled.values(values)

    def delete_seen(self, seen: Sequence[tuple[bytes, int]]) -> tuple[str, list[Any]]:
        """Return (sql, parameters) deleting records at their revisions."""
        values = self._values_of_list("address", [address for address, _ in seen])
        compiled = self._compiled(
            ("delete seen", len(values)),
            lambda: delete(records).where(self._among("address", len(values)), self._at_revisions(len(values))),
        )
        return compiled.sql, compiled.values(values | self._values_of_pairs(seen))

    def runs_since(self, run_ids: Sequence[Any], stored_from: float, now: float) -> tuple[str, list[Any]]:
        """Return (sql, parameters) selecting those of some runs that have stored anything since a time."""
        values = self._values_of_list("any_run_id", run_ids)
        compiled = self._compiled(
            ("runs since", len(values)),
            lambda: (
                select(_c.run_id)
                .distinct()
                .where(
                    self._among("run_id", len(values), "any_run_id"),
                    *(self._at(name) for name in ("stored_from", "live_at")),
                )
            ),
        )
        return compiled.sql, compiled.values(values | {"stored_from": stored_from, "live_at": now})

    def addresses(self, after: int, limit: int) -> tuple[str, list[Any]]:
        """Return (sql, parameters) selecting id, address and kind of all rows after an id, damaged ones too."""
        compiled = self._compiled(
            "addresses",
            lambda: (
                select(_c.id, _c.address, _c.kind)
                .where(_c.id > bindparam("after", type_=_c.id.type))
                .order_by(_c.id)
                .limit(bindparam("size"))
                .offset(literal_column("0"))
            ),
        )
        return compiled.sql, compiled.values({"after": after, "size": limit})

    def count(self, query: Query) -> tuple[str, list[Any]]:
        """Return (sql, parameters) counting the selected records."""
        shape, values = self._split(query)
        compiled = self._compiled(
            ("count", shape), lambda: select(func.count()).select_from(records).where(*self._where(shape))
        )
        return compiled.sql, compiled.values(values)

    def scan(self, query: Query, after: int | SortKey | None, limit: int, payload: bool) -> tuple[str, list[Any]]:
        """Return (sql, parameters) selecting the rows of a page, unordered, each starting with its id."""
        shape, values = self._split(query)
        values |= {"size": limit, "skip": query.skip}
        if isinstance(after, tuple):
            values |= {"after": self._key(after[0]), "after_address": after[1]}
        else:
            values["after"] = after
        compiled = self._compiled(
            ("scan", shape, after is None, payload), lambda: self._scan(shape, after is not None, payload)
        )
        return compiled.sql, compiled.values(values)

    def expired(self, query: Query, after: tuple[float, int] | None, limit: int) -> tuple[str, list[Any]]:
        """Return (sql, parameters) selecting expired records without payloads, the first to expire first.

        Each row starts with the time and the id. The index on that time has this order.
        """
        shape, values = self._split(query)
        values["size"] = limit
        if after is not None:
            values |= {"after_time": after[0], "after": after[1]}
        compiled = self._compiled(("expired", shape, after is None), lambda: self._expired(shape, after is not None))
        return compiled.sql, compiled.values(values)

    def _expired(self, shape: QueryShape, after: bool) -> ClauseElement:
        page = select(_c.expires_at, _c.id, *_HEAD).where(*self._where(shape))
        if after:
            at, number = bindparam("after_time", type_=_c.expires_at.type), bindparam("after", type_=_c.id.type)
            page = page.where(_c.expires_at >= at, or_(_c.expires_at > at, _c.id > number))
        return page.order_by(_c.expires_at, _c.id).limit(bindparam("size")).offset(literal_column("0"))

    def _scan(self, shape: QueryShape, after: bool, payload: bool) -> ClauseElement:
        order = [*self._by_task_id(_c.task_id), _c.address] if shape.by_task_id else [self._order(shape)]
        page = select(_c.id).where(*self._where(shape))
        page = page.order_by(*(one.desc() if shape.descending else one.asc() for one in order))
        # SQLAlchemy writes an OFFSET after each LIMIT for SQLite: as a constant it is not a parameter.
        page = page.limit(bindparam("size")).offset(bindparam("skip") if shape.skips else literal_column("0"))
        if after:
            page = page.where(self._after(shape))
        # Only ids are sorted, never the rows, which may be long; then the rows of the page are read.
        ids = page.subquery("page")
        columns = (_c.id, *_HEAD, self.payload) if payload else (_c.id, *_HEAD)
        return select(*columns).join_from(ids, records, _c.id == ids.c.id)

    def _order(self, shape: QueryShape) -> ColumnElement[int]:
        return _c.id

    def _by_task_id(self, task_id: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """Return the sort keys for a task id, given or a column; the last one decides."""
        return [task_id]

    def sort_key(self, position: SortKey) -> tuple[str | bytes, bytes]:
        """Return a place in the order by task id, as this database compares it."""
        return position

    def _after(self, shape: QueryShape) -> ColumnElement[bool]:
        """Select the rows after a cursor's place."""
        if not shape.by_task_id:
            at = bindparam("after", type_=_c.id.type)
            return _c.id < at if shape.descending else _c.id > at
        ahead, up_to = (operator.lt, operator.le) if shape.descending else (operator.gt, operator.ge)
        *firsts, column = self._by_task_id(_c.task_id)
        *bounds, after = self._by_task_id(bindparam("after", type_=_c.task_id.type))
        later = ahead(_c.address, bindparam("after_address", type_=_c.address.type))
        # The sort keys before the deciding one may be in an index.
        near = [up_to(first, bound) for first, bound in zip(firsts, bounds, strict=True)]
        return and_(*near, or_(ahead(column, after), and_(column == after, later)))

    @classmethod
    def text(cls, statement: ClauseElement, column_keys: Sequence[str] | None = None) -> str:
        """Compile a statement."""
        keys = None if column_keys is None else list(column_keys)
        return str(statement.compile(dialect=cls.dialect, column_keys=keys))

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
    """The statements of databases with ON CONFLICT and RETURNING: SQLite and PostgreSQL."""

    insertion: ClassVar[Callable[..., Any]]

    @classmethod
    def _on_conflict(cls, condition: ColumnElement[bool] | None) -> str:
        first = cls.insertion(records).values(cls._numbering())
        return cls.text(
            first.on_conflict_do_update(
                index_elements=[_c.address],
                set_={"revision": NEXT, **{name: first.excluded[name] for name in REPLACED_COLUMNS}},
                where=condition,
            ).returning(_c.revision),
            INSERTED,
        )

    @classmethod
    def _numbering(cls) -> dict[str, ColumnElement[int]]:
        """Return the expression for a new row's id, if the database does not generate one."""
        return {}

    @classmethod
    def _upsert(cls) -> str:
        return cls._on_conflict(None)

    @classmethod
    def _insert(cls) -> str:
        return cls._on_conflict(and_(_c.expires_at <= bindparam("now")))
