"""What the tests of adapters share, importable by the processes that they start."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flowstore.storages
from flowstore.storage import RecordStorage
from flowstore.testing import record
from flowstore.testing.concurrency import in_child, wait_for

__all__ = [
    "Recipe",
    "contents",
    "file_size_limit",
    "in_child",
    "make",
    "open_files",
    "opened",
    "record",
    "wait_for",
]

Recipe = tuple[str, dict[str, Any]]
"""An adapter's name and configuration: how any process makes its own instance."""


def make(recipe: Recipe) -> RecordStorage:
    name, configuration = recipe
    storage: RecordStorage = getattr(flowstore.storages, name)(**configuration)
    return storage


@contextmanager
def opened(recipe: Recipe) -> Iterator[RecordStorage]:
    storage = make(recipe)
    storage.connect()
    try:
        yield storage
    finally:
        storage.disconnect()


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, with their bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def open_files(below: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # the listing's own
        if target.startswith(f"{below}/"):
            found.append(target)
    return found


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: writing fails as on a full disk. For a child process."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
