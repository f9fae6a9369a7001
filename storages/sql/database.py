"""Connections to a SQL database: one for each thread, taken from SQLAlchemy's pool."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple, NoReturn, TypeVar
from weakref import WeakSet

from sqlalchemy.log import InstanceLogger
from sqlalchemy.pool import Pool, QueuePool

from flowstore.errors import FlowstoreError, OutcomeUnknownError, UnreachableError
from flowstore.record import Record
from flowstore.storages.sql.statements import Statements
from flowstore.storages.sql.target import Settings, Target

T = TypeVar("T")

Parameters = Sequence[Any]

_LOGGER: Final = "sqlalchemy.engine.Engine"

# Of parent processes: closing a connection that was inherited over a fork can damage the parent's.
_abandoned: Final[list[Database]] = []


class Outcome(NamedTuple):
    """What a statement gave: its rows, how many rows it changed, and an id that it made."""

    rows: Sequence[tuple[Any, ...]]
    changed: int
    last_id: int | None


class Link(ABC):
    """A connection that another thread may close: between two statements, not in the middle of one."""

    closed: bool = False

    def __init__(self) -> None:
        # Reentrant, because a signal's handler may use the storage too.
        self.turn = threading.RLock()

    @abstractmethod
    def run(self, sql: str, parameters: Parameters = ()) -> Outcome:
        """Run one statement, committed when this returns."""

    @abstractmethod
    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        """Run the statement ``upsert`` for each row, all in one transaction; return the revisions."""

    @abstractmethod
    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[Outcome]:
        """Run one statement for each row, all in one transaction."""

    def close(self) -> None:
        """Close the connection, once."""
        if not self.closed:
            self.closed = True
            self._close()

    @abstractmethod
    def _close(self) -> None: ...


class Database(ABC):
    """The connections of one process to one database.

    A thread's connection goes back to the pool when the thread ends.
    """

    sql: Statements
    largest: int = 512 << 20
    """Bytes that the payload of one record can have; half of what the databases can hold, whatever goes with it."""

    locks_rows: ClassVar[bool] = True
    """Whether two batches at once may wait for each other's records."""

    pool: ClassVar[dict[str, Any]]
    """What ``QueuePool`` is made with."""

    def __init__(self, target: Target, settings: Settings) -> None:
        self.pid = os.getpid()
        self.target = target
        self.settings = settings
        self._logger = InstanceLogger(True, _LOGGER) if settings.echo else None
        self._local = threading.local()
        self._guard = threading.Lock()
        self._links: WeakSet[Link] = WeakSet()
        self._closed = False
        self._pool = self._make_pool()

    # What each database implements

    def _make_pool(self) -> Pool:
        return QueuePool(self._open, reset_on_return=None, **self.pool)

    @abstractmethod
    def _connect(self) -> Link:
        """Open a connection."""

    @abstractmethod
    def translate(self, exc: BaseException) -> FlowstoreError | None:
        """Return the flowstore error that an exception of the driver means, or ``None`` for one that is a bug."""

    def is_lost(self, link: Link, exc: BaseException) -> bool:
        """Tell whether an exception leaves a connection without the answer to what was asked."""
        return False

    def is_read_only(self, exc: BaseException) -> bool:
        """Tell whether a server refused to write because it is a replica now: there may be another primary."""
        return False

    def key(self, text: str) -> str | bytes:
        """Turn a text that identifies a record into what its column keeps."""
        return text

    def text(self, kept: Any) -> str:
        """Turn what a column keeps into the text that it was."""
        return kept  # type: ignore[no-any-return]

    def columns(self, record: Record) -> tuple[str | None, bytes | None]:
        """Return the payload as text or as bytes, for the columns ``value`` and ``payload``."""
        if record.is_json:
            try:
                return record.payload.decode(), None
            except UnicodeDecodeError:
                pass  # whatever it is, it has to come back as it was given
        return None, record.payload

    @abstractmethod
    def now(self) -> float:
        """Return the time that all who use the database agree on, in seconds since the epoch."""

    def insertion(self, row: Parameters, now: float) -> Parameters:
        """Return the parameters of the statement ``insert``."""
        return (*row, now)

    def revision(self, outcome: Outcome, row: Parameters) -> int | None:
        """Return the revision that ``upsert`` or ``insert`` gave to a row, or ``None`` where they did nothing."""
        return outcome.rows[0][0] if outcome.rows else None

    # The schema

    def open_link(self) -> Any:
        """Open a connection that is the caller's to close."""
        return self._open()

    @abstractmethod
    def lock_schema(self, link: Any) -> None:
        """Begin a transaction in which that connection alone changes tables; another one waits here until its end."""

    def unlock_schema(self, link: Any) -> None:  # noqa: B027
        """Let go of what the end of the transaction has left locked."""

    # Statements

    def rows(self, sql: str, parameters: Parameters = ()) -> Sequence[tuple[Any, ...]]:
        """Run a statement that changes nothing; return its rows."""
        return self._use(lambda link: link.run(sql, parameters), False, sql).rows

    def upsert(self, row: Parameters) -> int:
        """Write a record in any case; return the new revision."""
        sql = self.sql.upsert
        revision = self.revision(self._use(lambda link: link.run(sql, row), True, sql), row)
        assert revision is not None
        return revision

    def insert(self, row: Parameters, now: float) -> int | None:
        """Write a record where there is none, or one that has expired; else return ``None``."""
        sql, parameters = self.sql.insert, self.insertion(row, now)
        return self.revision(self._use(lambda link: link.run(sql, parameters), True, sql), row)

    def change(self, sql: str, parameters: Parameters) -> int:
        """Run a statement that changes rows; return how many."""
        return self._use(lambda link: link.run(sql, parameters), True, sql).changed

    def put_many(self, rows: Sequence[Parameters]) -> list[int]:
        """Run the statement ``upsert`` for many rows in one transaction; return the revisions."""
        return self._use(lambda link: link.put_many(self.sql, rows), True, self.sql.upsert)

    def insert_many(self, rows: Sequence[Parameters], now: float) -> list[bool]:
        """Write many records in one transaction, each as ``insert`` does; tell of each whether it was written."""
        sql, parameters = self.sql.insert, [self.insertion(row, now) for row in rows]
        outcomes = self._use(lambda link: link.run_each(sql, parameters), True, sql)
        return [self.revision(outcome, row) is not None for outcome, row in zip(outcomes, rows, strict=True)]

    def _use(self, work: Callable[[Link], T], changes: bool, sql: str) -> T:
        if self._logger is not None:
            self._logger.info(sql)
        link = self._held()
        if link is not None:
            return self._work(link, work, changes)
        fairy, link = self._take()
        try:
            return self._work(link, work, changes)
        finally:
            if link.closed:
                fairy.invalidate()
            fairy.close()

    def _work(self, link: Link, work: Callable[[Link], T], changes: bool) -> T:
        with link.turn:
            if link.closed:
                raise UnreachableError(f"{self.target}: the storage was disconnected meanwhile")
            try:
                return self._do(link, work, changes)
            except BaseException as exc:
                self._fail(link, exc, changes)

    def _do(self, link: Link, work: Callable[[Link], T], changes: bool) -> T:
        return work(link)

    def _fail(self, link: Link, exc: BaseException, changes: bool) -> NoReturn:
        lost = self.is_lost(link, exc)
        if lost or self.is_read_only(exc):
            self._forget(link)
        if isinstance(exc, FlowstoreError):
            raise exc
        error = self.translate(exc) if isinstance(exc, Exception) else None
        if error is None:
            raise exc
        if lost and changes and isinstance(error, UnreachableError):
            error = OutcomeUnknownError(f"{error}; whether it was stored or deleted is not known")
        raise error from exc

    # Connections

    def _held(self) -> Link | None:
        """Return this thread's connection; ``None`` where one has to be taken for each call."""
        try:
            return self._local.link  # type: ignore[no-any-return]
        except AttributeError:
            return self._hold()

    def _hold(self) -> Link:
        fairy, link = self._take()
        # The first of the two goes back to the pool when the thread's end drops it.
        self._local.fairy, self._local.link = fairy, link
        return link

    def _forget(self, link: Link) -> None:
        """Close a connection that is of no more use; the thread's next call takes another one."""
        link.close()
        if getattr(self._local, "link", None) is link:
            fairy = self._local.fairy
            del self._local.link, self._local.fairy
            fairy.invalidate()

    def _take(self) -> tuple[Any, Link]:
        fairy: Any = self._pool.connect()
        link: Link = fairy.dbapi_connection
        with self._guard:
            if self._closed:
                link.close()
                raise UnreachableError(f"{self.target}: the storage was disconnected meanwhile")
        return fairy, link

    def _open(self) -> Any:
        try:
            link = self._connect()
        except Exception as exc:
            error = None if isinstance(exc, FlowstoreError) else self.translate(exc)
            if error is None:
                raise
            raise error from exc
        with self._guard:
            self._links.add(link)
        return link

    def close(self) -> None:
        """Close the connections of all threads, each when its statement is done; leave a parent process's alone."""
        if self.pid != os.getpid():
            self.abandon()
            return
        with self._guard:
            self._closed = True
            links = list(self._links)
        for link in links:
            with link.turn:
                link.close()
        self._pool.dispose()
        # What a thread holds leads back to here, and a thread's end may be far away.
        self._local = threading.local()

    def abandon(self) -> None:
        """Keep the connections of a parent process from being closed here, which could damage the parent's."""
        _abandoned.append(self)
