"""Connections to Redis: held by threads, one round trip for a call, and no retry by the driver."""

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
from .topology import Place, Topology

_END: Final = b"\r\n"
_LARGE: Final = 64 * 1024
_REDIRECTIONS: Final = 8
_BATCH: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024

# A timeout while a connection is wrapped in TLS comes as an OSError.
_BROKEN = (RedisConnectionError, RedisTimeoutError, InvalidResponse, OSError)


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Held:
    """A connection of one thread; another one may close it between two calls."""

    place: Place
    connection: AbstractConnection
    # Reentrant, because a signal's handler may disconnect in the middle of a call.
    turn: threading.RLock = field(default_factory=threading.RLock)
    # Set by any thread when the server has told one that it is not the one to ask any more.
    is_stale: bool = False
    poll: Callable[[int], Sequence[object]] = field(init=False)

    def __post_init__(self) -> None:
        # The connection's own can_read() reads from the socket, which costs a tenth of a round trip.
        poller = select.poll()
        sock: Any = self.connection._sock
        poller.register(sock, select.POLLIN)
        self.poll = poller.poll


class Link:
    """The connections of one process.

    A call takes a connection of its thread's, or makes one, and puts it back when its answer was read to the end. What
    interrupts a call, be it an error, a timeout or a signal's handler, ends the connection, so that no answer is left
    in it for the next call. So does an answer that the server is not the one to ask any more, for all threads: whoever
    calls next looks up the server's name anew.

    Args:
        timeout: seconds to wait for an answer, once a connection is made.
    """

    def __init__(self, topology: Topology, timeout: float) -> None:
        self._topology = topology
        self._timeout = timeout
        self._local = threading.local()
        self._guard = threading.RLock()
        self._all: weakref.WeakSet[_Held] = weakref.WeakSet()
        self._closed = False

    def call(self, base: bytes, command: Command, *, mutates: bool = False) -> Any:
        """Send one command to the server of a key and return its answer.

        Raises:
            UnreachableError: it was not sent, or only reads.
            OutcomeUnknownError: it may have been done.
            ResponseError: the server refuses it.
        """
        try:
            return self._exchange(self._topology.place(base), packed((command,)), mutates)
        except (NoScriptError, AskError) as exc:
            return self._again(base, command, exc, mutates)

    def call_many(self, commands: Sequence[tuple[bytes, Command]], *, mutates: bool = False) -> list[Any]:
        """Send commands, each to the server of its key, many in one round trip; return the answers in their order.

        Raises:
            as ``call``. The other commands may have been done.
        """
        answers: list[Any] = [None] * len(commands)
        by_place: dict[Place, list[int]] = {}
        for number, (base, _) in enumerate(commands):
            by_place.setdefault(self._topology.place(base), []).append(number)
        for place, numbers in by_place.items():
            for batch in _batches(commands, numbers):
                got = self._exchange_scripts(place, [commands[number][1] for number in batch], mutates)
                for number, answer in zip(batch, got, strict=True):
                    answers[number] = answer
        for number, answer in enumerate(answers):
            if isinstance(answer, AskError):
                base, command = commands[number]
                answers[number] = self._again(base, command, answer, mutates)
            elif isinstance(answer, Exception):
                raise answer
        return answers

    def everywhere(self, command: Command) -> list[tuple[Place, Any]]:
        """Send one command that changes nothing to each server; return the answers, errors of the server included."""
        return [(place, self._exchange_many(place, [command], False)[0]) for place in self._topology.places()]

    def keys(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Go through the keys of all servers that are like a pattern, some at a time; a key may come twice."""
        for place in self._topology.places():
            cursor = b"0"
            while True:
                command = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % (2 * _BATCH))
                cursor, found = self._exchange(place, packed((command,)), False)
                yield found
                if cursor == b"0":
                    break

    def close(self) -> None:
        """Close the connections of all threads, each when its call is done."""
        with self._guard:
            self._closed = True
            everyone = list(self._all)
        for held in everyone:
            with held.turn:
                held.connection.disconnect()
        self._topology.close()

    def _exchange(self, place: Place, chunks: Iterable[bytes], mutates: bool) -> Any:
        held = self._take(place)
        connection = held.connection
        with held.turn:
            self._refuse_if_closed()
            try:
                connection.send_packed_command(chunks, check_health=False)
                answer = connection.read_response(disable_decoding=True)
            except ResponseError as exc:
                self._settle(held, (exc,))
                raise named(exc) from None
            except _BROKEN as exc:
                connection.disconnect()
                raise broken(exc, str(place), mutates=mutates) from exc
            except BaseException:
                connection.disconnect()
                raise
        self._local.idle[place].append(held)
        return answer

    def _exchange_many(self, place: Place, commands: Sequence[Command], mutates: bool) -> list[Any]:
        held = self._take(place)
        connection = held.connection
        answers: list[Any] = []
        with held.turn:
            self._refuse_if_closed()
            try:
                connection.send_packed_command(packed(commands), check_health=False)
                for _ in commands:
                    try:
                        answers.append(connection.read_response(disable_decoding=True, disconnect_on_error=False))
                    except ResponseError as exc:
                        answers.append(named(exc))
            except _BROKEN as exc:
                connection.disconnect()
                raise broken(exc, str(place), mutates=mutates) from exc
            except BaseException:
                connection.disconnect()
                raise
        self._settle(held, answers)
        return answers

    def _settle(self, held: _Held, answers: Iterable[object]) -> None:
        """Put a connection back whose answers have been read, unless they say that it is of no use any more."""
        if not any(map(is_elsewhere, answers)):
            self._local.idle[held.place].append(held)
            return
        held.connection.disconnect()
        with self._guard:
            for other in self._all:
                other.is_stale = other.is_stale or other.place == held.place
        self._topology.lost(held.place)

    def _exchange_scripts(self, place: Place, commands: Sequence[Command], mutates: bool) -> list[Any]:
        answers = self._exchange_many(place, commands, mutates)
        missing = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            loading = [(b"SCRIPT", b"LOAD", source) for source in SOURCES.values()]
            again = self._exchange_many(place, [*loading, *(commands[number] for number in missing)], mutates)
            for number, answer in zip(missing, again[len(loading) :], strict=True):
                answers[number] = answer
        return answers

    def _again(self, base: bytes, command: Command, exc: NoScriptError | AskError, mutates: bool) -> Any:
        """Send a command again that was certainly not done: the server lacks the script, or the key is elsewhere."""
        place, asking = self._topology.place(base), False
        for _ in range(_REDIRECTIONS):
            if isinstance(exc, NoScriptError):
                command = (b"EVAL", SOURCES[command[1]], *command[2:])
            else:
                asking = not isinstance(exc, MovedError)
                place = self._topology.redirected(exc, refresh=not asking)
            answer = self._exchange_many(place, [(b"ASKING",), command] if asking else [command], mutates)[-1]
            if not isinstance(answer, NoScriptError | AskError):
                if isinstance(answer, Exception):
                    raise answer
                return answer
            exc = answer
        raise UnreachableError(f"the servers of the cluster send each other's keys around: {exc}")

    def _take(self, place: Place) -> _Held:
        try:
            idle = self._local.idle[place]
            held: _Held = idle.pop()
        except (AttributeError, KeyError, IndexError):
            return self._open(place)
        # Nothing was asked, so all that can be there to read is the end: the server has gone, or closed the connection.
        if held.is_stale or held.poll(0):
            with held.turn:
                held.connection.disconnect()
            return self._take(place)
        return held

    def _open(self, place: Place) -> _Held:
        if not hasattr(self._local, "idle"):
            self._local.idle = {}
        self._local.idle.setdefault(place, [])
        self._refuse_if_closed()
        connection = self._topology.connection(place)
        try:
            connection.connect()
            self._be_patient(connection)
        except (RedisError, OSError) as exc:
            connection.disconnect()
            self._topology.lost(place)
            raise unreachable(exc, str(place)) from exc
        held = _Held(place, connection)
        with self._guard:
            if not self._closed:
                self._all.add(held)
                return held
        connection.disconnect()
        raise UnreachableError("the storage was disconnected meanwhile")

    def _be_patient(self, connection: AbstractConnection) -> None:
        # Until now, also while the server was asked for its leave, what counted was the time to connect.
        connected: Any = connection
        connected.socket_timeout = self._timeout
        connected._sock.settimeout(self._timeout)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UnreachableError("the storage was disconnected meanwhile")


def packed(commands: Iterable[Command]) -> list[bytes]:
    """Encode commands for the wire; what is large stays as it is instead of being copied."""
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
