"""An adapter for the tests' own server, right in every respect, and what starts and stops that server."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flowstore.errors import (
    ConflictError,
    CorruptError,
    OutcomeUnknownError,
    SerializationError,
    StorageError,
    UnreachableError,
)
from flowstore.record import Damaged, Page, Query, Record, Ref
from flowstore.storage import QueriesFields, RecordStorage
from tests.testing.wire_server import dump_record, dump_ref, load_record, load_ref

_MUTATIONS = frozenset({"put", "put_many", "delete"})
_abandoned: list[Any] = []

Link = Any
"""A connection, as something to read lines from and write to."""


class WireOutage:
    """Closes the server's port and all connections, and opens the port again; or loses an answer."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self) -> None:
        self._tell("down")

    def end(self) -> None:
        self._tell("up")

    def lose(self) -> None:
        self._tell("lose")

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def wire_server() -> Iterator[tuple[int, WireOutage]]:
    """Start a server; yield its port and what makes it unreachable."""
    program = [sys.executable, str(Path(__file__).with_name("wire_server.py"))]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), WireOutage(process)
        finally:
            process.kill()


class WireStorage(RecordStorage, QueriesFields):
    """Hold one connection for each thread."""

    def __init__(self, port: int, place: str, password: str = "") -> None:
        self._port = port
        self._place = place
        self._password = password
        self._links: dict[int, Link] = {}
        self._pid = os.getpid()
        self._connected = False
        self._ahead = 0.0

    def connect(self) -> None:
        before = time.monotonic()
        self._ahead = self._call("now") - before
        self._connected = True

    def disconnect(self) -> None:
        self._leave_to_parent()
        self._connected = False
        while self._links:
            _, link = self._links.popitem()
            self._close(link)

    def _close(self, link: Link) -> None:
        try:
            link.write(b"goodbye\n")
            link.close()
        except OSError:
            link.close()

    def is_connected(self) -> bool:
        return self._connected

    def now(self) -> float:
        return time.monotonic() + self._ahead

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        return self._loaded(self._call("get", dump_ref(ref), payload))

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        revision: int = self._call("put", self._dumped(record), if_revision, now)
        return revision

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        revisions: list[int] = self._call("put_many", [self._dumped(record) for record in records], now)
        return revisions

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        deleted: bool = self._call("delete", dump_ref(ref), if_revision)
        return deleted

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        records, cursor, damaged = self._call("scan", dataclasses.asdict(query), cursor, limit, payload)
        found = [record for told in records if (record := self._loaded(told)) is not None]
        return Page(found, cursor, [self._damaged(*told) for told in damaged])

    def _dumped(self, record: Record) -> Any:
        return dump_record(record)

    def _loaded(self, told: Any) -> Record | None:
        return load_record(told)

    def _call(self, operation: str, *arguments: Any) -> Any:
        line = self._line([self._place, operation, arguments])
        self._leave_to_parent()
        thread = threading.get_ident()
        link = self._links.get(thread)
        if link is None:
            link = self._links[thread] = self._open()
        try:
            link.write(line)
            link.flush()
            told = link.readline()
        except OSError as exc:
            raise self._broken(thread, operation) from exc
        if not told:
            raise self._broken(thread, operation)
        answer = json.loads(told)
        if "conflict" in answer:
            raise ConflictError(answer["message"], self._loaded(answer["conflict"]))
        if "corrupt" in answer:
            raise CorruptError(answer["corrupt"])
        if "error" in answer:
            raise StorageError(answer["error"])
        return answer["answer"]

    def _damaged(self, ref: list[str], message: str) -> Damaged:
        error = CorruptError(message)
        error.ref = load_ref(ref)
        return Damaged(error)

    def _line(self, request: Any) -> bytes:
        try:
            return json.dumps(request).encode() + b"\n"
        except TypeError as exc:
            raise SerializationError(f"the headers are not JSON: {exc}") from exc

    def _open(self) -> Link:
        try:
            with socket.create_connection(("127.0.0.1", self._port)) as connection:
                return connection.makefile("rwb")
        except OSError as exc:
            raise UnreachableError(f"no answer at port {self._port}: {exc}") from exc

    def _broken(self, thread: int, operation: str) -> UnreachableError:
        link = self._links.pop(thread)
        with suppress(OSError):
            link.close()
        kind = OutcomeUnknownError if operation in _MUTATIONS else UnreachableError
        return kind(f"the connection to port {self._port} broke")

    def _leave_to_parent(self) -> None:
        if self._pid != os.getpid():
            _abandoned.append(self._links)
            self._links = {}
            self._pid = os.getpid()
