"""Adapters of a user's own, with which tests watch or disturb what a worker stores."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from hashlib import sha256
from pathlib import Path
from typing import Any

from flowstore import DataStorage, Record, UnreachableError
from flowstore.record import RESULT
from flowstore.storages import SqlStorage


def note(path: str | Path, line: str) -> None:
    """Append a line; whole, also when several processes do it at once."""
    with open(path, "a") as file:
        file.write(line + "\n")


class LedgerStorage(DataStorage):
    """The six methods and nothing more, as somebody writes them who has only read the example."""

    def __init__(self, folder, slow_connect=0.0, failing_connects=0):  # type: ignore[no-untyped-def]
        self.folder = Path(folder)
        self.slow_connect = slow_connect
        self.failing_connects = failing_connects
        self.connection: str | None = None

    def is_connected(self) -> bool:
        return self.connection is not None

    def connect(self) -> None:
        note(self.folder / "connects", f"{os.getpid()} {threading.get_ident()}")
        time.sleep(self.slow_connect)
        if self.failing_connects:
            self.failing_connects -= 1
            raise ConnectionRefusedError("the ledger is closed")
        self.connection = f"{os.getpid()}-{uuid.uuid4()}"

    def disconnect(self) -> None:
        note(self.folder / "disconnects", str(os.getpid()))
        self.connection = None

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        try:
            return json.loads(self._path(flow_name, task_name, task_id).read_text())["result"]
        except FileNotFoundError:
            raise KeyError(task_id) from None

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> str:
        path = self._path(flow_name, task_name, task_id)
        path.write_text(json.dumps({"result": result, "connection": self.connection, "pid": os.getpid()}))
        return path.name

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: Any) -> None:
        error = {"type": exc_info[0].__name__, "message": str(exc_info[1]), "node_args": repr(node_args)}
        self._path(flow_name, task_name, task_id).with_suffix(".error").write_text(json.dumps(error))

    def _path(self, *key: str) -> Path:
        return self.folder / sha256("\0".join(key).encode()).hexdigest()


class ResultsOnlyStorage(LedgerStorage):
    """A ledger without the optional method."""

    store_error = DataStorage.store_error


class SwitchedStorage(SqlStorage):
    """Refuse to store anything while a file is there; as often as the number in it says, or for ever without one."""

    def __init__(self, connection_string: str, switch: str) -> None:
        super().__init__(connection_string)
        self._switch = Path(switch)

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        if self._switch.exists():
            left = self._switch.read_text()
            if left:
                self._switch.write_text(str(int(left) - 1))
            if left != "0":
                raise UnreachableError("the database is switched off")
        return super()._put(record, if_revision, now)


class GatedStorage(SqlStorage):
    """Hold back each result of tasks for which a closed gate is there, until it is opened."""

    def __init__(self, connection_string: str, gates: str) -> None:
        super().__init__(connection_string)
        self._gates = Path(gates)

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        gate = self._gates / record.key.task_name
        if record.kind == RESULT and gate.exists():
            gate.with_suffix(".reached").touch()
            while gate.exists():
                time.sleep(0.01)
        return super()._put(record, if_revision, now)


class BrokenStorage(DataStorage):
    """Fail in every way but the expected ones."""

    def connect(self) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def is_connected(self) -> bool:
        return True

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        raise ZeroDivisionError("broken on purpose")

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> Any:
        raise ZeroDivisionError("broken on purpose")

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: Any) -> Any:
        raise ZeroDivisionError("broken on purpose")
