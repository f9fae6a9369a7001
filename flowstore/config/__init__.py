"""The configuration: from YAML to validated values, with every mistake at its place.

This package knows nothing of adapters. What reads and checks is loaded on first use, so that importing the values'
classes costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.config.mistakes import Mistake, Place
from flowstore.config.model import CacheEntry, Configuration, FlowEntry, HistoryPolicy, StorageEntry, TaskEntry

if TYPE_CHECKING:
    from flowstore.config.reading import read

__all__ = [
    "CacheEntry",
    "Configuration",
    "FlowEntry",
    "HistoryPolicy",
    "Mistake",
    "Place",
    "StorageEntry",
    "TaskEntry",
    "read",
]


def __getattr__(name: str) -> Any:
    if name != "read":
        raise AttributeError(f"module 'flowstore.config' has no attribute {name!r}")
    from flowstore.config.reading import read

    return read
