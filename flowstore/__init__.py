"""A task-flow result storage framework for Celery.

The names below are loaded on first use, so that importing flowstore costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstore.celery.context import TaskContext, current
    from flowstore.errors import (
        ConfigurationError,
        ConflictError,
        CorruptError,
        ExpiredError,
        FlowstoreError,
        InvalidKeyError,
        NotFoundError,
        NotSentError,
        OutcomeUnknownError,
        OutsideTaskError,
        ReadonlyError,
        ResultSchemaError,
        ResultTooLargeError,
        SerializationError,
        StorageError,
        UnknownStorageError,
        UnreachableError,
        UnsupportedError,
    )
    from flowstore.record import Key, Page, Query, Record, Ref
    from flowstore.record.failure import Failure, RemoteTaskError
    from flowstore.record.reference import Reference
    from flowstore.storage import DataStorage, RecordStorage
    from flowstore.store import FlowStore
    from flowstore.store.documents import Documents
    from flowstore.store.flow_run import FlowRun
    from flowstore.store.history import HistoryEntry
    from flowstore.store.state import Checkpoints
    from flowstore.store.task_run import TaskRun

__version__ = "0.1.0"

_HOMES = {
    "celery.context": ("TaskContext", "current"),
    "store.documents": ("Documents",),
    "errors": (
        "ConfigurationError",
        "ConflictError",
        "CorruptError",
        "ExpiredError",
        "FlowstoreError",
        "InvalidKeyError",
        "NotFoundError",
        "NotSentError",
        "OutcomeUnknownError",
        "OutsideTaskError",
        "ReadonlyError",
        "ResultSchemaError",
        "ResultTooLargeError",
        "SerializationError",
        "StorageError",
        "UnknownStorageError",
        "UnreachableError",
        "UnsupportedError",
    ),
    "record.failure": ("Failure", "RemoteTaskError"),
    "store.flow_run": ("FlowRun",),
    "store.history": ("HistoryEntry",),
    "store.state": ("Checkpoints",),
    "store.task_run": ("TaskRun",),
    "record": ("Key", "Page", "Query", "Record", "Ref"),
    "record.reference": ("Reference",),
    "storage": ("DataStorage", "RecordStorage"),
    "store": ("FlowStore",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Checkpoints",
    "ConfigurationError",
    "ConflictError",
    "CorruptError",
    "DataStorage",
    "Documents",
    "ExpiredError",
    "Failure",
    "FlowRun",
    "FlowStore",
    "FlowstoreError",
    "HistoryEntry",
    "InvalidKeyError",
    "Key",
    "NotFoundError",
    "NotSentError",
    "OutcomeUnknownError",
    "OutsideTaskError",
    "Page",
    "Query",
    "ReadonlyError",
    "Record",
    "RecordStorage",
    "Ref",
    "Reference",
    "RemoteTaskError",
    "ResultSchemaError",
    "ResultTooLargeError",
    "SerializationError",
    "StorageError",
    "TaskContext",
    "TaskRun",
    "UnknownStorageError",
    "UnreachableError",
    "UnsupportedError",
    "current",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'flowstore' has no attribute {name!r}")
    value = getattr(import_module(f"flowstore.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
