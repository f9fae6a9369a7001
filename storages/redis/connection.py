"""Connections to Redis: one per thread and server, without retries."""

# The driver leaves most of its functions without annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import select
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.connection import AbstractConnection
from redis.exceptions import AskError, InvalidResponse, MovedError, NoScriptError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from flowstore.errors import UnreachableError

from .errors import broken, is_elsewhere, named, unreachable
from .layout import SOURCES, Command
from .topology import Server, Topology

_END: Final = b"\r\n"
_LARGE: Final = 64 * 1024
_REDIRECTIONS: Final = 8
_BATCH: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024

# A timeout while a connection is wrapped in TLS comes as an OSError.
_BROKEN = (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError)


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Socket:
    """A thread's connection, which others may close between two calls."""

    server: Server
    connection: AbstractConnection
    # Reentrant, because a signal's handler may disconnect in the middle of a call.
    lock: threading.RLock = field(default_factory=threading.RLock)
    # Set by any thread to which the server answered that another one has taken its place.
    is_stale: bool = False
    poll: Callable[[int], Sequence[object]] = field(init=False)

    def __post_init__(self) -> None:
        # The connection's own can_read() reads from the socket, which costs a tenth of a round trip.
        poller = select.poll()
        sock: Any = self.connection._sock
        poller.register(sock, select.POLLIN)
        self.poll = poller.poll


class Connection:
    """All connections of one process; several threads may call it.

    A call takes a connection of its thread, or makes one, and puts it back once the answer is read to the end. An
    error, a timeout or a signal's handler in the middle of a call closes the connection: no answer is left in it for
    the next call. An answer that another server has taken this one's place closes the connections of all threads: the
    next calls look up the server again.

    Args:
        timeout: seconds to wait for an answer. Making a connection has another timeout.
    """

    def __init__(self, topology: Topology, timeout: float) -> None:
        self._topology = topology
        self._timeout = timeout
        self._local = threading.local()
        self._guard = threading.RLock()
        self._all: weakref.WeakSet[_Socket] = weakref.WeakSet()
        self._closed = False

    def call(self, base: bytes, command: Command, *, mutates: bool = False) -> Any:
        """Send one command to the server of a key and return its answer.

        Raises:
            UnreachableError: the command was not sent, or only reads.
            OutcomeUnknownError: the command may have been executed.
            ResponseError: the server refuses the command.
        """
        try:
            return self._exchange(self._topology.server(base), pack((command,)), mutates)
        except (NoScriptError, AskError) as exc:
            return self._again(base, command, exc, mutates)

    def call_many(self, commands: Sequence[tuple[bytes, Command]], *, mutates: bool = False) -> list[Any]:
        """Send commands, many per round trip; return the answers in order.

        Raises:
            UnreachableError, OutcomeUnknownError, ResponseError: as ``call``; others may have been executed.
        """
        answers: list[Any] = [None] * len(commands)
        by_server: dict[Server, list[int]] = {}
        for number, (base, _) in enumerate(commands):
            by_server.setdefault(self._topology.server(base), []).append(number)
        for server, numbers in by_server.items():
            for batch in _batches(commands, numbers):
                got = self._exchange_scripts(server, [commands[number][1] for number in batch], mutates)
                for number, answer in zip(batch, got, strict=True):
                    answers[number] = answer
        for number, answer in enumerate(answers):
            if isinstance(answer, AskError):
                base, command = commands[number]
                answers[number] = self._again(base, command, answer, mutates)
            elif isinstance(answer, Exception):
                raise answer
        return answers

    def everywhere(self, command: Command) -> list[tuple[Server, Any]]:
        """Send a read-only command to each server; return answers and errors."""
        return [(server, self._exchange_many(server, [command], False)[0]) for server in self._topology.servers()]

    def keys(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Iterate over batches of keys that match a pattern; keys may repeat."""
        for server in self._topology.servers():
            cursor = b"0"
            while True:
                command = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % (2 * _BATCH))
                cursor, found = self._exchange(server, pack((command,)), False)
                yield found
                if cursor == b"0":
                    break

    def close(self) -> None:
        """Close the connections of all threads, each when its call is finished."""
        with self._guard:
            self._closed = True
            sockets = list(self._all)
        for socket in sockets:
            with socket.lock:
                socket.connection.disconnect()
        self._topology.close()

    def _exchange(self, server: Server, chunks: Iterable[bytes], mutates: bool) -> Any:
        socket = self._acquire(server)
        connection = socket.connection
        with socket.lock:
            self._raise_if_closed()
            try:
                connection.send_packed_command(chunks, check_health=False)
                answer = connection.read_response(disable_decoding=True)
            except ResponseError as exc:
                self._settle(socket, (exc,))
                raise named(exc) from None
            except _BROKEN as exc:
                connection.disconnect()
                raise broken(exc, str(server), mutates=mutates) from exc
            except BaseException:
                connection.disconnect()
                raise
        self._local.idle[server].append(socket)
        return answer

    def _exchange_many(self, server: Server, commands: Sequence[Command], mutates: bool) -> list[Any]:
        socket = self._acquire(server)
        connection = socket.connection
        answers: list[Any] = []
        with socket.lock:
            self._raise_if_closed()
            try:
                connection.send_packed_command(pack(commands), check_health=False)
                for _ in commands:
                    try:
                        answers.append(connection.read_response(disable_decoding=True, disconnect_on_error=False))
                    except ResponseError as exc:
                        answers.append(named(exc))
            except _BROKEN as exc:
                connection.disconnect()
                raise broken(exc, str(server), mutates=mutates) from exc
            except BaseException:
                connection.disconnect()
                raise
        self._settle(socket, answers)
        return answers

    def _settle(self, socket: _Socket, answers: Iterable[object]) -> None:
        """Put a connection back, or close it if its server was replaced."""
        if not any(map(is_elsewhere, answers)):
            self._local.idle[socket.server].append(socket)
            return
        socket.connection.disconnect()
        with self._guard:
            for other in self._all:
                other.is_stale = other.is_stale or other.server == socket.server
        self._topology.lost(socket.server)

    def _exchange_scripts(self, server: Server, commands: Sequence[Command], mutates: bool) -> list[Any]:
        answers = self._exchange_many(server, commands, mutates)
        missing = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            loading = [(b"SCRIPT", b"LOAD", source) for source in SOURCES.values()]
            again = self._exchange_many(server, [*loading, *(commands[number] for number in missing)], mutates)
            for number, answer in zip(missing, again[len(loading) :], strict=True):
                answers[number] = answer
        return answers

    def _again(self, base: bytes, command: Command, exc: NoScriptError | AskError, mutates: bool) -> Any:
        """Send a command again that failed for want of its script or key."""
        server, asking = self._topology.server(base), False
        for _ in range(_REDIRECTIONS):
            if isinstance(exc, NoScriptError):
                command = (b"EVAL", SOURCES[command[1]], *command[2:])
            else:
                asking = not isinstance(exc, MovedError)
                server = self._topology.redirected(exc, refresh=not asking)
            answer = self._exchange_many(server, [(b"ASKING",), command] if asking else [command], mutates)[-1]
            if not isinstance(answer, NoScriptError | AskError):
                if isinstance(answer, Exception):
                    raise answer
                return answer
            exc = answer
        raise UnreachableError(f"the servers of the cluster keep redirecting to each other: {exc}")

    def _acquire(self, server: Server) -> _Socket:
        try:
            idle = self._local.idle[server]
            socket: _Socket = idle.pop()
        except (AttributeError, KeyError, IndexError):
            return self._open(server)
        # An idle connection turns readable only when it is closed: the server is gone, or closed it.
        if socket.is_stale or socket.poll(0):
            with socket.lock:
                socket.connection.disconnect()
            return self._acquire(server)
        return socket

    def _open(self, server: Server) -> _Socket:
        if not hasattr(self._local, "idle"):
            self._local.idle = {}
        self._local.idle.setdefault(server, [])
        self._raise_if_closed()
        connection = self._topology.connection(server)
        try:
            connection.connect()
            self._set_timeout(connection)
        except (RedisError, OSError) as exc:
            connection.disconnect()
            self._topology.lost(server)
            raise unreachable(exc, str(server)) from exc
        socket = _Socket(server, connection)
        with self._guard:
            if not self._closed:
                self._all.add(socket)
                return socket
        connection.disconnect()
        raise UnreachableError("the storage was disconnected in the meantime")

    def _set_timeout(self, connection: AbstractConnection) -> None:
        # Until now, logging in included, the timeout to connect counted.
        connected: Any = connection
        connected.socket_timeout = self._timeout
        connected._sock.settimeout(self._timeout)

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise UnreachableError("the storage was disconnected in the meantime")


def pack(commands: Iterable[Command]) -> list[bytes]:
    """Encode commands for the wire, without copying large arguments."""
    chunks: list[bytes] = []
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            size = len(argument)
            if size > _LARGE:
                parts.append(b"$%d\r\n" % size)
                chunks += (b"".join(parts), argument)
                parts = [_END]
            else:
                parts.append(b"$%d\r\n%b\r\n" % (size, argument))
    chunks.append(b"".join(parts))
    return chunks


def _batches(commands: Sequence[tuple[bytes, Command]], numbers: Sequence[int]) -> Iterable[list[int]]:
    batch: list[int] = []
    size = 0
    for number in numbers:
        more = sum(map(len, commands[number][1]))
        if batch and (len(batch) == _BATCH or size + more > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += more
    yield batch
