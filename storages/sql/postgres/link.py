"""A connection to PostgreSQL that waits for no longer than it may."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg

from ..link import Parameters, StatementOutcome
from ..server import ServerLink
from ..statements import Statements
from .errors import SilenceError

T = TypeVar("T")

# What psycopg's generators wait for and get: 1 is reading, 2 is writing.
_EVENTS: Final = {1: select.POLLIN, 2: select.POLLOUT, 3: select.POLLIN | select.POLLOUT}


_IDLE: Final = psycopg.pq.TransactionStatus.IDLE
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"


class Connection(psycopg.Connection[Any]):
    """A connection that closes itself if the server does not respond in time.

    psycopg itself waits forever: ``statement_timeout`` is kept by the server, which may have stopped, and TCP only
    confirms that the other kernel has received the data.
    """

    patience: float
    """Seconds to wait for each part of an answer."""

    def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
        poll = select.poll()
        descriptor = self.pgconn.socket
        try:
            wanted = next(gen)
            while True:
                poll.register(descriptor, _EVENTS[wanted])
                found = poll.poll(self.patience * 1000)
                if not found:
                    # Before a rollback, which would wait once more.
                    self.pgconn.finish()
                    raise SilenceError("the server does not respond")
                event = found[0][1]
                # A broken connection counts as ready: using it raises the error.
                broken = event & (select.POLLHUP | select.POLLERR | select.POLLNVAL)
                wanted = gen.send(wanted if broken else _ready(event))
        except StopIteration as done:
            return done.value


def _ready(event: int) -> int:
    return (1 if event & select.POLLIN else 0) | (2 if event & select.POLLOUT else 0)


class PostgresLink(ServerLink):
    """A connection to PostgreSQL."""

    limit: str | None = None
    """The statement that sets a transaction's limits; for a pooler, which keeps no settings of a session."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.fileno())
        self.connection = connection
        self._cursor = connection.cursor(binary=True)

    def run(self, sql: str, parameters: Parameters = ()) -> StatementOutcome:
        if self.limit is not None and self.connection.info.transaction_status == _IDLE:
            return self._limited(self.limit, lambda: self._cursor.execute(sql, parameters), self._outcome)
        self._cursor.execute(sql, parameters)
        return self._outcome()

    def _outcome(self) -> StatementOutcome:
        cursor = self._cursor
        # Not from the cursor's description: building that takes a third of the call.
        result = cursor.pgresult
        return StatementOutcome(
            cursor.fetchall() if result is not None and result.nfields else (), cursor.rowcount, None
        )

    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        with self.transaction():
            self._cursor.executemany(sql.upsert, rows, returning=True)
            return [revision for result in self._cursor.results() for (revision,) in result]

    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[StatementOutcome]:
        with self.transaction():
            self._cursor.executemany(sql, rows, returning=True)
            return [StatementOutcome(result.fetchall(), result.rowcount, None) for result in self._cursor.results()]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in a transaction."""
        with self.connection.transaction():
            if self.limit is not None:
                self.connection.execute(self.limit)
            yield

    def _limited(self, limit: str, send: Callable[[], object], read: Callable[[], T]) -> T:
        """Run a statement in a transaction with limits, in one round trip."""
        connection = self.connection
        try:
            with connection.pipeline():
                connection.execute(_BEGIN)
                connection.execute(limit)
                send()
                connection.execute("COMMIT")
            return read()
        except psycopg.Error:
            if not connection.closed:
                connection.rollback()
            raise

    def _has_ended(self) -> bool:
        try:
            # It may be a notice or a changed setting.
            while self._poll(0):
                self.connection.pgconn.consume_input()
        except psycopg.Error:
            return True
        return self.connection.closed

    def _close(self) -> None:
        self.connection.close()
