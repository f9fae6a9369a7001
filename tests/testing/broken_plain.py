"""Adapters of the six methods, each with one mistake that adapters really have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

from flowstore.storage import DataStorage, ExcInfo
from tests.testing.plain import PlainStorage, ResultStorage


class KeyByTaskId(PlainStorage):
    def file(self, *names: str) -> Path:
        return super().file(*names[2:])


class JoinedKey(PlainStorage):
    def file(self, *names: str) -> Path:
        return super().file(":".join(names))


class FoldedKey(PlainStorage):
    def file(self, *names: str) -> Path:
        return super().file(*(name.casefold() for name in names))


class TrimmedKey(PlainStorage):
    def file(self, *names: str) -> Path:
        return super().file(*(name.rstrip(" ") for name in names))


class InsertOnly(PlainStorage):
    def write(self, file: Path, value: Any) -> None:
        with file.open("x") as new:
            json.dump(value, new)


class MissIsNone(PlainStorage):
    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        try:
            return super().retrieve(flow_name, task_name, task_id)
        except FileNotFoundError:
            return None


class ErrorInResultsSlot(PlainStorage):
    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: ExcInfo) -> None:
        self.store(flow_name, task_name, task_id, str(exc_info[1]))


class TornWrite(PlainStorage):
    def write(self, file: Path, value: Any) -> None:
        file.write_text(json.dumps(value))


class SharedValue(DataStorage):
    """Hands out and keeps the callers' own objects; also lacks everything that lies beyond one instance."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, str], Any] = {}
        self.connected = False

    def connect(self) -> None:
        self.connected = True

    def disconnect(self) -> None:
        self.connected = False

    def is_connected(self) -> bool:
        return self.connected

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        return self.values[flow_name, task_name, task_id]

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> None:
        self.values[flow_name, task_name, task_id] = result


class WritesBehind(ResultStorage):
    """Writes when it is disconnected."""

    def connect(self) -> None:
        super().connect()
        self.waiting: dict[Path, Any] = {}

    def disconnect(self) -> None:
        for file, value in getattr(self, "waiting", {}).items():
            super().write(file, value)
        self.waiting = {}
        super().disconnect()

    def write(self, file: Path, value: Any) -> None:
        self.waiting[file] = json.dumps(value)

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        file = self.file(flow_name, task_name, task_id)
        if file in self.waiting:
            return json.loads(self.waiting[file])
        return json.loads(super().retrieve(flow_name, task_name, task_id))


class NotThreadSafe(PlainStorage):
    """Says that it is thread-safe, and keeps the current file in an attribute."""

    thread_safe: ClassVar[bool] = True
    current: Path

    def file(self, *names: str) -> Path:
        self.current = super().file(*names)
        return self.current

    def write(self, file: Path, value: Any) -> None:
        text = json.dumps(value)
        temporary = Path(f"{self.current}.{os.urandom(8).hex()}")
        temporary.write_text(text)
        os.replace(temporary, self.current)
