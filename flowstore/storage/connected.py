"""Connecting once per process: what adapters with a client share."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Final, Generic, Protocol, TypeVar

from flowstore.errors import StorageError
from flowstore.forks import ForkSafeLock
from flowstore.storage.primitives import Primitives


class Connection(Protocol):
    """How an adapter reaches its database: a client, a pool, sockets."""

    def close(self) -> None:
        """Close it, and whatever it holds open."""


C = TypeVar("C", bound=Connection)

# Connections that came over a fork. They belong to the parent process: they are neither closed nor collected here.
_inherited: Final[list[object]] = []


class ConnectedStorage(Primitives, Generic[C]):
    """A record storage that holds one connection per process.

    An adapter implements ``_open``, may override ``_prepare``, and uses what ``_connection`` returns. After a fork, the
    child's first call opens a connection for the child, and the inherited one is left alone.

    Constructors call ``super().__init__()``.
    """

    def __init__(self) -> None:
        # With the id of the process that opened it; replaced as a whole, so that reading it takes no lock.
        self._opened: tuple[int, C] | None = None
        self._connecting = ForkSafeLock()

    @abstractmethod
    def _open(self) -> C:
        """Return a new connection. If it raises, nothing may stay open.

        One thread at a time calls this and ``_prepare``. Exceptions of the driver go through ``_translate``.
        """

    def _prepare(self, connection: C) -> None:
        """Check the database over a new connection; if this raises, close it."""

    def connect(self) -> None:
        """Connect to the database. Does nothing while connected."""
        with self._connecting:
            if self.is_connected():
                return
            connection = self._open_prepared()
            if self._opened is not None:
                _inherited.append(self._opened)
            self._opened = os.getpid(), connection

    def _open_prepared(self) -> C:
        try:
            connection = self._open()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except Exception as exc:
            self._raise(exc)
        return connection

    def disconnect(self) -> None:
        """Close the connection for all threads of this process."""
        with self._connecting:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            pid, connection = opened
            if pid == os.getpid():
                connection.close()
            else:
                _inherited.append(connection)

    def is_connected(self) -> bool:
        opened = self._opened
        return opened is not None and opened[0] == os.getpid()

    def _connection(self) -> C:
        """Return this process's connection; after a fork, connect first.

        Raises:
            StorageError: the storage is not connected.
        """
        opened = self._opened
        if opened is None:
            raise StorageError("the storage is not connected: call connect() first")
        pid, connection = opened
        if pid == os.getpid():
            return connection
        self.connect()
        return self._connection()
