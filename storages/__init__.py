"""The adapters that come with flowstore.

Each class is loaded on first use, and its driver on connecting: a database that isn't configured costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstore.storages.file import FileStorage
    from flowstore.storages.memory import MemoryStorage
    from flowstore.storages.mongo import MongoStorage
    from flowstore.storages.redis import RedisStorage
    from flowstore.storages.routing import RoutingStorage
    from flowstore.storages.s3 import S3Storage
    from flowstore.storages.sql import SqlStorage

__all__ = ["FileStorage", "MemoryStorage", "MongoStorage", "RedisStorage", "RoutingStorage", "S3Storage", "SqlStorage"]

_MODULES = {
    "FileStorage": "file",
    "MemoryStorage": "memory",
    "MongoStorage": "mongo",
    "RedisStorage": "redis",
    "RoutingStorage": "routing",
    "S3Storage": "s3",
    "SqlStorage": "sql",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
