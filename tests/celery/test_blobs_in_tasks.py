"""Blobs of the running task, and of its parents."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery, chain

from flowstore import FlowStore, OutsideTaskError, current

LARGE = b"line\n" * 40_000


@pytest.fixture
def store(tmp_path: Path) -> FlowStore:
    app = Celery("blobs", broker="memory://", task_always_eager=True, set_as_current=False)
    storage = {"name": "S", "classname": "FileStorage", "configuration": {"path": str(tmp_path / "s")}, "expires": "1d"}
    store = FlowStore({"storages": [storage], "global": {"default_storage": "S"}}, app=app)

    @app.task(name="write")
    def write() -> int:
        assert current().store_blob("lines", b"draft") == 5
        return current().store_blob("lines", LARGE)

    @app.task(name="read")
    def read(size: int) -> list[int]:
        [parent] = current().parents()
        with current().retrieve_blob("lines", parent) as file:
            lines = sum(1 for _ in file)
        current().store_blob("count", str(lines).encode())
        with current().retrieve_blob("count") as file:
            return [size, lines, int(file.read())]

    return store


def test_tasks_keep_blobs(store: FlowStore) -> None:
    app = store._app
    assert app is not None
    run = store.start("flow", chain(app.tasks["write"].s(), app.tasks["read"].s()))
    assert run.get(timeout=10) == [len(LARGE), 40_000, 40_000]
    written, read = run.tasks()
    assert store.blobs("flow", "write", written.id) == {"lines": len(LARGE)}
    assert store.blobs("flow", "read", read.id) == {"count": 5}
    kinds = sorted(record.kind for _, record in store._run_reader.records(run.id))
    assert kinds == ["blob", "blob", "result", "result", "run"]
    assert all(record.expires_at for _, record in store._run_reader.records(run.id, ("blob", "result")))
    assert store.delete_run(run.id) == 5
    assert store.blobs("flow", "write", written.id) == {}


def test_outside_of_a_task_there_is_none() -> None:
    with pytest.raises(OutsideTaskError):
        current().store_blob("a", b"")
