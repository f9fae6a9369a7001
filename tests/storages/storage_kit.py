"""What the tests of adapters share, importable by the processes that they start."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import flowstore.storages
from flowstore.errors import StorageError
from flowstore.storage import RecordStorage
from flowstore.testing import record
from flowstore.testing.concurrency import in_child, wait_for

__all__ = [
    "PATIENCE",
    "Recipe",
    "connected_to",
    "contents",
    "file_size_limit",
    "in_child",
    "make",
    "open_files",
    "opened",
    "record",
    "returns",
    "store_while_reconnecting",
    "used_by_threads",
    "wait_for",
]

PATIENCE = 60
"""Seconds after which a call counts as one that never returns."""

S = TypeVar("S", bound=RecordStorage)

Recipe = tuple[str, dict[str, Any]]
"""An adapter's name and configuration: how any process makes its own instance."""


def make(recipe: Recipe) -> RecordStorage:
    name, configuration = recipe
    storage: RecordStorage = getattr(flowstore.storages, name)(**configuration)
    return storage


@contextmanager
def connected_to(storage: S) -> Iterator[S]:
    """Connect a storage, and disconnect it at the end."""
    storage.connect()
    try:
        yield storage
    finally:
        storage.disconnect()


def opened(recipe: Recipe) -> AbstractContextManager[RecordStorage]:
    return connected_to(make(recipe))


def store_while_reconnecting(storage: RecordStorage, times: int, stores: int) -> tuple[list[int], list[object]]:
    """Store in four threads while this one disconnects, connects and stores again and again.

    Returns:
        how much each thread, named by its number as a task, was told is stored; and the errors but those that tell
        of the missing connection.
    """
    stop = threading.Event()
    lost: list[object] = []

    def work(worker: int) -> int:
        stored = 0
        while not stop.is_set():
            try:
                storage.store("f", str(worker), str(stored), "x" * 50_000)
                stored += 1
            except StorageError as exc:
                if "connected" not in str(exc):
                    lost.append(exc)
        return stored

    with ThreadPoolExecutor(4) as pool:
        stored = [pool.submit(work, worker) for worker in range(4)]
        for _ in range(times):
            storage.disconnect()
            storage.connect()
            for number in range(stores):
                storage.store("f", "here", str(number), number)
        stop.set()
        return [one.result() for one in stored], lost


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


def returns(call: Callable[[], object]) -> Any:
    """Run a call in a thread of its own and give what it returned or raised; fail if it does neither."""
    outcome: list[object] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcome, "the call waits without an end"
    return outcome[0]


@contextmanager
def used_by_threads(storage: RecordStorage, count: int = 3) -> Iterator[None]:
    """Let threads store something each, then the block do its work, then the same threads retrieve it."""
    stored, go_on = threading.Barrier(count + 1), threading.Event()
    problems: list[BaseException] = []

    def work(number: int) -> None:
        storage.store("f", "t", str(number), number)
        stored.wait(60)
        go_on.wait(60)
        try:
            assert storage.retrieve("f", "t", str(number)) == number
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    stored.wait(60)
    try:
        yield
    finally:
        go_on.set()
        for thread in threads:
            thread.join()
    assert problems == []
