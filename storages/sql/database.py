"""Connections to a SQL database: one for each thread, taken from SQLAlchemy's pool."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NoReturn, TypeVar
from weakref import WeakSet

from sqlalchemy.log import InstanceLogger
from sqlalchemy.pool import Pool, QueuePool

from flowstore.errors import FlowstoreError, OutcomeUnknownError, UnreachableError
from flowstore.record import JSON, Record

from .link import Link, Parameters, StatementOutcome, statement
from .statements import Statements
from .target import Settings, Target

T = TypeVar("T")

_LOGGER: Final = "sqlalchemy.engine.Engine"


class Writers(ABC):
    """A queue for the writers of one process, if a database lets one of them write at a time."""

    @abstractmethod
    def acquire(self, link: Link) -> threading.RLock:
        """Wait for this writer's turn; return the lock to release after it."""


class Database(ABC):
    """The connections of one process to one database.

    A thread's connection goes back to the pool when the thread ends.
    """

    sql: Statements
    largest: int = 512 << 20
    """Bytes that the payload of one record can have; half of what the databases can hold, whatever goes with it."""

    escapes: ClassVar[bool] = True
    """Whether ``key`` and ``text`` change anything."""

    locks_rows: ClassVar[bool] = True
    """Whether two concurrent batches may wait for each other's records."""

    pool: ClassVar[dict[str, Any]]
    """The arguments of ``QueuePool``."""

    writers: Writers | None = None
    """Where writers wait for each other; ``None`` if the database sees to that."""

    def __init__(self, target: Target, settings: Settings) -> None:
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
        """Return the flowstore error for a driver's exception, or None if the exception is a bug."""

    def is_lost(self, link: Link, exc: BaseException) -> bool:
        """Return whether an answer may still arrive on the connection after an exception."""
        return False

    def is_read_only(self, exc: BaseException) -> bool:
        """Return whether the server refused to write because it is a replica now; there may be another primary."""
        return False

    def key(self, text: str) -> str | bytes:
        """Return what a column keeps of a name."""
        return text

    def text(self, kept: Any) -> str:
        """Return the name that a column keeps."""
        return kept  # type: ignore[no-any-return]

    def columns(self, record: Record) -> tuple[str | None, bytes | None]:
        """Return the payload as text or as bytes, for the columns ``value`` and ``payload``."""
        if record.headers.get("content_type") == JSON:
            try:
                return record.payload.decode(), None
            except UnicodeDecodeError:
                pass  # it is stored as it is
        return None, record.payload

    @abstractmethod
    def now(self) -> float:
        """Return the time that all users of the database agree on, in seconds since the epoch."""

    def upsert_values(self, row: Parameters) -> Parameters:
        """Return the parameters of the statement ``upsert``."""
        return row

    def insert_values(self, row: Parameters, now: float) -> Parameters:
        """Return the parameters of the statement ``insert``."""
        return (*row, now)

    def revision(self, outcome: StatementOutcome, row: Parameters) -> int | None:
        """Return the revision that ``upsert`` or ``insert`` gave to a row; None if they wrote nothing."""
        return outcome.rows[0][0] if outcome.rows else None

    # The schema

    def open_link(self) -> Any:
        """Open a connection that is the caller's to close."""
        return self._open()

    @abstractmethod
    def lock_schema(self, link: Any) -> None:
        """Begin a transaction in which only this connection changes tables; others wait here until its end."""

    def unlock_schema(self, link: Any) -> None:  # noqa: B027
        """Release what the end of the transaction has left locked."""

    # Statements

    def rows(self, sql: str, parameters: Parameters = ()) -> Sequence[tuple[Any, ...]]:
        """Run a statement that changes nothing; return its rows."""
        return self.execute(statement(sql, parameters), sql).rows

    def change(self, sql: str, parameters: Parameters) -> int:
        """Run a statement that changes rows; return how many."""
        return self.execute(statement(sql, parameters), sql, changes=True).changed

    def put_many(self, rows: Sequence[Parameters]) -> list[int]:
        """Run the statement ``upsert`` for many rows in one transaction; return the revisions."""
        values = [self.upsert_values(row) for row in rows]
        return self.execute(lambda link: link.put_many(self.sql, values), self.sql.upsert, changes=True)

    def insert_many(self, rows: Sequence[Parameters], now: float) -> list[bool]:
        """Run the statement ``insert`` for many rows in one transaction; return a flag for each row written."""
        sql, values = self.sql.insert, [self.insert_values(row, now) for row in rows]
        outcomes = self.execute(lambda link: link.run_each(sql, values), sql, changes=True)
        return [self.revision(outcome, row) is not None for outcome, row in zip(outcomes, rows, strict=True)]

    def execute(self, work: Callable[[Link], T], sql: str, *, changes: bool = False) -> T:
        """Run statements on this thread's connection; raise flowstore's errors for the driver's.

        A signal may raise an exception anywhere in here. What must be undone then is undone by ``finally``, without a
        call of another Python function before it.

        Args:
            work: runs them on the connection that it is given.
            sql: the statement, for the log.
            changes: whether they change rows.
        """
        if self._logger is not None:
            self._logger.info(sql)
        link, borrowed = self._borrow()
        turn = None
        try:
            if changes and self.writers is not None:
                turn = self.writers.acquire(link)
            with link.lock:
                if link.closed:
                    raise UnreachableError(f"{self.target}: the storage was disconnected meanwhile")
                nested, link.busy = link.busy, True
                try:
                    if not nested:
                        link.before(changes)
                    found = work(link)
                    link.after(changes)
                    return found
                except BaseException as exc:
                    self._raise(link, exc, changes)
                finally:
                    link.busy = nested
        finally:
            if turn is not None:
                turn.release()
            if borrowed is not None:
                if link.closed:
                    borrowed.invalidate()
                borrowed.close()

    def _raise(self, link: Link, exc: BaseException, changes: bool) -> NoReturn:
        """Raise what an exception means, after closing a connection that can't be used any more."""
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

    def _borrow(self) -> tuple[Link, Any]:
        """Return a connection for one call, and what to close after it; None for this thread's own connection."""
        link: Link | None = getattr(self._local, "link", None)
        if link is None:
            return self._hold(), None
        if link.busy:
            borrowed, link = self._take()
            return link, borrowed
        return link, None

    def _hold(self) -> Link:
        """Take a connection for this thread."""
        fairy, link = self._take()
        # The first of the two goes back to the pool when the thread's end drops it.
        self._local.fairy, self._local.link = fairy, link
        return link

    def _forget(self, link: Link) -> None:
        """Close a connection; the thread's next call takes another one."""
        link.close()
        if getattr(self._local, "link", None) is link:
            fairy = self._local.fairy
            del self._local.link, self._local.fairy
            fairy.invalidate()

    def _take(self) -> tuple[Any, Link]:
        """Take a connection from the pool; return SQLAlchemy's handle of it too, which gives it back."""
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
        """Close the connections of all threads, each when its statement is done."""
        with self._guard:
            self._closed = True
            links = list(self._links)
        for link in links:
            with link.lock:
                link.close()
        self._pool.dispose()
        # What a thread holds leads back to here, and a thread's end may be far away.
        self._local = threading.local()
