"""A small database server of the tests' own: records in memory, JSON lines over TCP.

Run as a program, it prints its port and then does what its standard input says: ``down`` closes all connections and
lets nobody connect, ``up`` lets connect again, ``lose`` cuts a connection in place of the next answer.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from flowstore.errors import ConflictError, CorruptError, StorageError
from flowstore.record import Key, Page, Query, Record, Ref
from flowstore.storages import MemoryStorage


def dump_ref(ref: Ref) -> list[str]:
    return [ref.kind, ref.key.flow_name, ref.key.task_name, ref.key.task_id, ref.name]


def load_ref(told: list[str]) -> Ref:
    return Ref(told[0], Key(told[1], told[2], told[3]), told[4])


def dump_record(record: Record | None) -> Any:
    if record is None:
        return None
    payload = base64.b64encode(record.payload).decode()
    return [dump_ref(record.ref), payload, dict(record.headers), record.revision]


def load_record(told: Any) -> Record | None:
    return told and Record(load_ref(told[0]), base64.b64decode(told[1]), told[2], told[3])


def load_query(told: dict[str, Any]) -> Query:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return Query(**fields)


class Database:
    """Places by name, each with records of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, MemoryStorage] = {}

    def answer(self, place: str, operation: str, arguments: list[Any]) -> Any:
        with self._lock:
            storage = self._places.setdefault(place, MemoryStorage())
        try:
            return {"answer": getattr(self, f"do_{operation}")(storage, *arguments)}
        except ConflictError as exc:
            return {"conflict": dump_record(exc.current), "message": str(exc)}
        except CorruptError as exc:
            return {"corrupt": str(exc)}
        except StorageError as exc:
            return {"error": str(exc)}

    def do_now(self, storage: MemoryStorage) -> float:
        return time.time()

    def do_get(self, storage: MemoryStorage, ref: list[str], payload: bool) -> Any:
        return dump_record(storage._get(load_ref(ref), payload))

    def do_put(self, storage: MemoryStorage, record: Any, if_revision: int | None, now: float) -> int:
        loaded = load_record(record)
        assert loaded is not None
        return storage._put(loaded, if_revision, now)

    def do_put_many(self, storage: MemoryStorage, records: list[Any], now: float) -> list[int]:
        return [self.do_put(storage, record, None, now) for record in records]

    def do_delete(self, storage: MemoryStorage, ref: list[str], if_revision: int | None) -> bool:
        return storage._delete(load_ref(ref), if_revision)

    def do_damage(self, storage: MemoryStorage, ref: list[str]) -> None:
        entry = storage._entries[load_ref(ref).address]
        storage._entries[load_ref(ref).address] = replace(entry, headers=b"{")

    def do_scan(self, storage: MemoryStorage, query: Any, cursor: str | None, limit: int, payload: bool) -> Any:
        page: Page = storage._scan(load_query(query), cursor, limit, payload)
        damaged = [[dump_ref(one.error.ref), str(one.error)] for one in page.damaged if one.error.ref is not None]
        return [[dump_record(record) for record in page.records], page.cursor, damaged]


class Server:
    """Serves a database at one port, as long as it is up."""

    def __init__(self) -> None:
        self._database = Database()
        self._open: set[socket.socket] = set()
        self._loses = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        # Shutting down wakes the thread that accepts; what had been accepted is closed by the shutdowns below.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster

    def lose(self) -> None:
        self._loses.set()

    def up(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            try:
                for line in stream:
                    if line == b"goodbye\n":
                        break
                    answer = self._database.answer(*json.loads(line))
                    if self._loses.is_set():
                        self._loses.clear()
                        break
                    stream.write(json.dumps(answer).encode() + b"\n")
                    stream.flush()
            except OSError:
                pass  # the client is gone
            finally:
                self._open.discard(connection)
                # A copy of the client's end may live on in a forked process: it has to see the end all the same.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def main() -> None:
    server = Server()
    print(server.port, flush=True)
    for line in sys.stdin:
        getattr(server, line.strip())()
        print("done", flush=True)


if __name__ == "__main__":
    main()
