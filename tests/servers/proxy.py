"""A TCP proxy that loses answers, holds them back, or refuses, as told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Pass bytes on between clients and one server.

    Attributes:
        lose_answers: what the server answers from now on is dropped, and the connection cut.
        lose_requests: what a client sends from now on is dropped, and the connection cut.
        lose_one: set, the next answer is dropped, and the connection cut.
        lost: how many answers, or requests, were dropped.
        flowing: cleared, answers are held back until it is set; ``held`` tells that one is.
        round_trips: how often a client spoke, after an answer or at first; for one connection that is used.
        patience: an answer waits until clients have been silent for so many seconds, so that what a client sends
            without waiting for it counts as one round trip however slowly it comes.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.lose_answers = False
        self.lose_requests = False
        self.lose_one = threading.Event()
        self.lost = 0
        self.round_trips = 0
        self.patience = 0.0
        self._last_request = 0.0
        self._server_spoke = True
        self.held = threading.Event()
        self.flowing = threading.Event()
        self.flowing.set()
        self._target = (host, port)
        self._refusing = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            ends: list[bool] = []
            for source, target, is_answer in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pump, args=(source, target, is_answer, ends))
                self._threads.append(thread)
                thread.start()

    def passed(self, data: bytes) -> bytes:
        """Return what is passed on instead of some bytes, in either direction."""
        return data

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool, ends: list[bool]) -> None:
        with suppress(OSError):  # the other direction has cut the connection
            while data := source.recv(65536):
                if is_answer:
                    while (silent := time.monotonic() - self._last_request) < self.patience:
                        time.sleep(self.patience - silent)
                else:
                    self.round_trips += self._server_spoke
                    self._last_request = time.monotonic()
                self._server_spoke = is_answer
                if is_answer and not self.flowing.is_set():
                    self.held.set()
                    self.flowing.wait()
                if self._loses(is_answer):
                    self.lost += 1
                    break
                target.sendall(self.passed(data))
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        ends.append(is_answer)
        if len(ends) == 2:
            for one in (source, target):
                self._open.discard(one)
                one.close()

    def _loses(self, is_answer: bool) -> bool:
        if is_answer and self.lose_one.is_set():
            self.lose_one.clear()
            return True
        return self.lose_answers if is_answer else self.lose_requests

    def lose(self) -> None:
        """Let the next answer get lost."""
        self.lose_one.set()

    def cut(self) -> None:
        """End all connections."""
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def begin(self) -> None:
        """Begin an outage: end all connections, and refuse new ones."""
        self._refusing = True
        self.cut()

    def end(self) -> None:
        """End the outage."""
        self._refusing = False

    def close(self) -> None:
        self.flowing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)


@contextmanager
def proxy(port: int, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """Start a proxy in front of a server."""
    one = Proxy(port, host)
    try:
        yield one
    finally:
        one.close()
