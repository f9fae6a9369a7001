"""Sub::Slice's rows, in every storage.

A job is a flow run here, a slice of it a task that is executed again and goes on where it was.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import flowstore.storages
from flowstore import ConfigurationError, FlowStore, Key, Query, current
from flowstore.errors import NotFoundError, UnreachableError
from flowstore.record import CHECKPOINT, RESULT
from flowstore.storage import RecordStorage
from flowstore.testing import Adapter, record
from flowstore.testing.concurrency import in_processes
from tests.storages.places import SHARED, adapter, configuration, entry, unreachable
from tests.storages.storage_kit import Recipe

pytest_plugins = ("tests.storages.every_storage",)
pytestmark = pytest.mark.each_time("sqlite", "redis")

KEY = Key("flow", "task", "id")
DAY = 86400.0
shared = pytest.mark.parametrize("kind", SHARED)


@pytest.fixture
def store(recipe: Recipe) -> Iterator[FlowStore]:
    store = FlowStore(configuration(recipe))
    yield store
    store.close()


@pytest.fixture
def app(store: FlowStore) -> Iterator[Celery]:
    """An app whose tasks run at once, attached to the store."""
    app = Celery("rows", set_as_current=False)
    app.conf.task_always_eager = True
    store.attach(app)
    yield app
    app.close()


def test_p1_a_short_name_is_ours_and_a_module_is_named(recipe: Recipe, tmp_path: Path) -> None:
    short = entry(recipe)
    long = short | {"name": "Long", "import": "flowstore.storages"}
    store = FlowStore({"storages": [short, long], "global": {"default_storage": "Long"}})
    kinds = {type(store.storage(name)) for name in ("Results", "Long")}
    assert kinds == {getattr(flowstore.storages, recipe[0])}
    store.close()


def test_p1_anything_else_is_refused_before_it_is_loaded(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary_of_rows.py").write_text("raise SystemExit('it was loaded')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for wrong in ({"classname": "canary_of_rows::Storage"}, {"classname": "../canary_of_rows"}, {"import": "os; exit"}):
        with pytest.raises(ConfigurationError):
            FlowStore({"storages": [entry(recipe) | wrong]})


def _start_flows(place: Adapter, barrier: Any, worker: int) -> list[str]:
    """Start flows; return their ids, each of which is stored before the flow runs."""
    app = Celery("rows", set_as_current=False)
    app.conf.task_always_eager = True
    store = FlowStore(configuration((place.storage_class.__name__, dict(place.configuration))), app=app)
    seen: list[str] = []

    @app.task(name="look", shared=False)
    def look() -> str | None:
        run_id = current().run_id
        assert run_id is not None
        seen.append(store.run(run_id).id)
        return run_id

    barrier.wait()
    ids = [store.start("flow", look.s()).id for _ in range(5)]
    assert seen == ids, "each was stored before its task began"
    store.close()
    return ids


@shared
def test_p2_ids_are_unique_over_processes_and_stored_first(recipe: Recipe) -> None:
    ids = [one for mine in in_processes(adapter(recipe), _start_flows, 180, 3) for one in mine]
    assert len(set(ids)) == len(ids) == 15
    store = FlowStore(configuration(recipe))
    assert {run.id for run in store.runs("flow")} == set(ids)
    store.close()


def test_p3_save_load_and_delete_a_task(store: FlowStore) -> None:
    store.store("flow", "task", "id", {"stage": 1})
    assert store.retrieve("flow", "task", "id") == {"stage": 1}
    store.store("flow", "task", "id", {"stage": 2})
    assert store.retrieve("flow", "task", "id") == {"stage": 2}
    assert store.delete("flow", "task", "id")
    with pytest.raises(NotFoundError):
        store.retrieve("flow", "task", "id")


def test_p3_a_run_is_deleted_by_its_id_without_loading(store: FlowStore, app: Celery) -> None:
    task = app.task(name="task", shared=False)(_checkpoints)
    run, other = (store.start("flow", task.s(number)) for number in range(2))
    (done,) = run.tasks()
    assert store.delete_run(run.id) >= 3
    with pytest.raises(NotFoundError):
        store.run(run.id)
    with pytest.raises(NotFoundError):
        store.retrieve("flow", "task", done.id)
    assert dict(store.checkpoints("flow", "task", done.id).items()) == {}
    assert other.get(timeout=10) == 1
    assert store.run(other.id).id == other.id


def _checkpoints(number: int) -> int:
    current().checkpoints["stage"] = number
    return number


def test_p4_a_task_finds_its_own_data_again(store: FlowStore) -> None:
    mine = store.checkpoints("flow", "task", "id")
    mine["page"] = 7
    mine["rows"] = [{"a": b"\xff"}]
    mine["page"] = 8
    again = store.checkpoints("flow", "task", "id")
    assert (again["page"], again["rows"], again.get("none", "default")) == (8, [{"a": b"\xff"}], "default")
    assert sorted(again) == ["page", "rows"]
    assert list(store.checkpoints("flow", "task", "other")) == []
    del again["rows"]
    assert "rows" not in mine
    with pytest.raises(NotFoundError):
        mine["rows"]


def test_p4_a_retried_task_goes_on_where_it_was(store: FlowStore, app: Celery) -> None:
    done: list[int] = []

    @app.task(bind=True, name="slices", max_retries=5, shared=False)
    def slices(self: Any) -> int:
        checkpoints = current().checkpoints
        for number in range(checkpoints.get("next", 0), 6):
            done.append(number)
            checkpoints["next"] = number + 1
            if number % 2:
                raise self.retry(countdown=0)
        return len(done)

    run = store.start("flow", slices.s())
    assert run.get(timeout=10) == 6
    assert done == list(range(6)), "no slice was done twice"


def test_p4_checkpoints_go_with_the_run(store: FlowStore, app: Celery) -> None:
    task = app.task(name="task", shared=False)(_checkpoints)
    run = store.start("flow", task.s(1))
    storage = store.storage("Results")
    assert isinstance(storage, RecordStorage)
    assert storage.count(Query((CHECKPOINT,))) == 1
    store.delete_run(run.id)
    assert storage.count(Query()) == 0


def test_p5_a_blob_is_stored_and_fetched(storage: RecordStorage) -> None:
    content = bytes(range(256)) * 9000
    assert storage.store_blob(KEY, "photo", io.BytesIO(content)) == len(content)
    with storage.retrieve_blob(KEY, "photo") as stream:
        assert stream.read(3) == content[:3]
        assert stream.read() == content[3:]
    assert [blob.ref.name for blob in storage.blobs(KEY)] == ["photo"]
    assert storage.delete_blob(KEY, "photo")
    with pytest.raises(NotFoundError):
        storage.retrieve_blob(KEY, "photo")


def test_p5_an_empty_blob_is_not_a_missing_one(storage: RecordStorage) -> None:
    assert not storage.has_blob(KEY, "empty")
    assert storage.store_blob(KEY, "empty", b"") == 0
    assert storage.has_blob(KEY, "empty")
    with storage.retrieve_blob(KEY, "empty") as stream:
        assert stream.read() == b""
    with pytest.raises(NotFoundError):
        storage.retrieve_blob(KEY, "missing")


def test_p5_values_cross_the_threshold_in_both_directions(recipe: Recipe) -> None:
    store = FlowStore(configuration(recipe, blob_threshold=1000))
    small, large = "x" * 10, "é" * 100_000
    for value in (small, large, large + "!", small, large):
        store.store("flow", "task", "id", value)
        assert store.retrieve("flow", "task", "id") == value
    assert store.delete("flow", "task", "id")
    storage = store.storage("Results")
    assert isinstance(storage, RecordStorage)
    assert list(storage.ids(Query())) == [], "nothing of a large value is left"
    store.close()


def test_p6_cleanup_returns_the_number_and_its_boundary_is_exact(
    storage: RecordStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = float(int(storage.now()))
    ages = {"older": DAY + 0.001, "exactly": DAY, "younger": DAY - 0.001}
    storage.put_many([record(Key("flow", "task", name), name, stored_at=now - age) for name, age in ages.items()])
    monkeypatch.setattr(storage, "now", lambda: now)
    assert storage.cleanup(older_than=DAY) == 1
    assert sorted(ref.key.task_id for ref in storage.ids(Query())) == ["exactly", "younger"]
    assert storage.cleanup(older_than=DAY) == 0


def test_p6_data_in_use_is_kept(store: FlowStore) -> None:
    """No worker takes the task: its run stays in progress."""
    app = Celery("rows", broker="memory://", set_as_current=False)
    store.attach(app)
    run = store.start("flow", app.task(name="task", shared=False)(_checkpoints).s(1))
    store.checkpoints("flow", "task", "mine", run_id=run.id)["stage"] = 1
    store.store("flow", "old", "id", "old")
    assert store.cleanup(older_than=0) == 1
    assert store.checkpoints("flow", "task", "mine")["stage"] == 1
    assert store.run(run.id).id == run.id
    app.close()


@shared
def test_p6_cleanup_raises_where_it_can_not_delete(kind: str, tmp_path: Path) -> None:
    store = FlowStore(configuration(unreachable(kind, tmp_path)))
    with pytest.raises(UnreachableError):
        store.cleanup(older_than=0, storage="Results")
    store.close()


def test_p7_a_reference_is_passed_on_and_loaded(store: FlowStore, recipe: Recipe) -> None:
    value = {"rows": ["x" * 1000] * 50}
    store.store("flow", "task", "id", value)
    token = json.dumps(store.reference("flow", "task", "id").to_dict())
    assert len(token) < 200
    assert store.load(json.loads(token)) == value
    store.delete("flow", "task", "id")
    with pytest.raises(NotFoundError):
        store.load(json.loads(token))


@shared
def test_p7_a_reference_is_loaded_by_another_instance(store: FlowStore, recipe: Recipe) -> None:
    store.store("flow", "task", "id", [1, 2])
    other = FlowStore(configuration(recipe))
    assert other.load(store.reference("flow", "task", "id").to_dict()) == [1, 2]
    other.close()
    with adapter(recipe).opened() as storage:
        assert storage.count(Query((RESULT,))) == 1
