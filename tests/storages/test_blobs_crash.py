"""A writer that dies at any step leaves the old value or the new one, and nothing that is not found again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from flowstore.errors import NotFoundError
from flowstore.record import BLOB, RESULT, Key, Ref
from flowstore.storage import PART, RecordStorage
from flowstore.storages import FileStorage, SqlStorage
from flowstore.testing.concurrency import in_child, wait_for

KEY: Final = Key("flow", "task", "1")
SMALL: Final = "small"
LARGE: Final = "x" * 5000
OTHER: Final = "y" * 6000

RECORDS: Final = ("_get", "_get_many", "_put", "_put_many", "_delete", "_delete_many", "_delete_seen")
FILES: Final = ("replace", "rename", "unlink", "fsync", "write")

Make = Callable[[], RecordStorage]
Work = Callable[[RecordStorage], object]


def store(value: str) -> Work:
    return lambda storage: storage.store("flow", "task", "1", value)


def store_blob(value: str) -> Work:
    return lambda storage: storage.store_blob(KEY, "a", value.encode() * (PART // len(value) + 1))


def delete(storage: RecordStorage) -> object:
    return storage.delete_task(KEY)


def state(storage: RecordStorage) -> object:
    """Return what is there, read as a whole."""
    try:
        return storage.retrieve("flow", "task", "1")
    except NotFoundError:
        pass
    try:
        with storage.retrieve_blob(KEY, "a") as file:
            return file.read()
    except NotFoundError:
        return None


@pytest.fixture(params=["sqlite", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def new() -> RecordStorage:
        storage: RecordStorage
        if request.param == "sqlite":
            storage = SqlStorage(f"sqlite:///{tmp_path / 'a.db'}", synchronous="NORMAL")
        else:
            storage = FileStorage(str(tmp_path / "a"))
        storage.blob_threshold = 1000
        storage.connect()
        return storage

    return new


@pytest.fixture
def opened(make: Make) -> Iterator[RecordStorage]:
    storage = make()
    yield storage
    storage.disconnect()


def dies_at(step: int, make: Make, work: Work, done: Path) -> None:
    """Do something in a process that ends before its n-th step, or after the last one."""
    steps = 0

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            if steps == step:
                os._exit(0)
            steps += 1
            return function(*args, **kwargs)

        return call

    def child() -> None:
        storage = make()
        for name in RECORDS:
            setattr(storage, name, mortal(getattr(storage, name)))
        for name in FILES:
            setattr(os, name, mortal(getattr(os, name)))
        work(storage)
        done.touch()

    wait_for(in_child(child))


@pytest.mark.parametrize(
    ("before", "work"),
    [
        (store(SMALL), store(LARGE)),
        (store(LARGE), store(SMALL)),
        (store(LARGE), store(OTHER)),
        (store(LARGE), delete),
        (delete, store(LARGE)),
        (store_blob("a"), store_blob("b")),
        (store_blob("a"), delete),
    ],
    ids=["to large", "to small", "to another", "delete", "first", "blob", "delete blob"],
)
def test_dies_at_any_step(make: Make, opened: RecordStorage, tmp_path: Path, before: Work, work: Work) -> None:
    done = tmp_path / "done"
    work(opened)
    new = state(opened)
    seen: set[object] = set()
    step = 0
    while not done.exists():
        delete(opened)
        before(opened)
        old = state(opened)
        dies_at(step, make, work, done)
        found = state(opened)
        assert found in (old, new), f"at step {step}"
        seen.add(found)
        opened.remove_orphans(0)
        assert state(opened) == found, f"at step {step}"
        assert sum(1 for _ in opened._contents()) == len(pointers(opened)), f"at step {step}"
        step += 1
    print(f"{step} steps")
    assert step > 3
    assert len(seen) == 2
    assert state(opened) == new


def pointers(storage: RecordStorage) -> list[object]:
    """Return the records that point to what is kept apart."""
    found = [storage._get(ref, False) for ref in (Ref(RESULT, KEY), Ref(BLOB, KEY, "a"))]
    return [one for one in found if one is not None and "content" in one.headers]
