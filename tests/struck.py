"""Adapters that are interrupted in one of their methods."""

from __future__ import annotations

from typing import Any

from flowstore import DataStorage, StorageError, UnreachableError
from flowstore.record import RESULT
from flowstore.storages import MemoryStorage


class Struck:
    """Where an interrupt strikes: in which method, at its beginning."""

    method = ""
    error: BaseException | None = None

    @classmethod
    def here(cls, method: str) -> None:
        if cls.method == method and cls.error is not None:
            error, cls.error = cls.error, None
            raise error


class Plain(DataStorage):
    def __init__(self) -> None:
        Struck.here("__init__")
        self.up = False
        self.values: dict[Any, Any] = {}

    def preload(self) -> None:
        Struck.here("preload")

    def connect(self) -> None:
        Struck.here("connect")
        self.up = True

    def describe(self) -> str:
        Struck.here("describe")
        return "here"

    def disconnect(self) -> None:
        self.up = False
        Struck.here("disconnect")

    def is_connected(self) -> bool:
        Struck.here("is_connected")
        return self.up

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        Struck.here("retrieve")
        return self.values[flow_name, task_name, task_id]

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> None:
        Struck.here("store")
        self.values[flow_name, task_name, task_id] = result

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: Any) -> None:
        Struck.here("store_error")
        self.values["error", task_id] = exc_info[1]


class Full(MemoryStorage):
    """Whose driver's errors are whatever there is."""

    def connect(self) -> None:
        Struck.here("connect")
        super().connect()

    def _get(self, ref: Any, payload: bool) -> Any:
        Struck.here("retrieve")
        return super()._get(ref, payload)

    def _put(self, record: Any, if_revision: int | None, now: float) -> int:
        Struck.here("store" if record.kind == RESULT else "store_error")
        return super()._put(record, if_revision, now)

    def _scan(self, query: Any, cursor: Any, limit: int, payload: bool) -> Any:
        Struck.here("scan")
        return super()._scan(query, cursor, limit, payload)

    def _translate(self, exc: Exception) -> StorageError | None:
        return UnreachableError(str(exc))
