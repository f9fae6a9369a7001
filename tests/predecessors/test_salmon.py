"""Salmon's rows, in every storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from flowstore import ConfigurationError, FlowStore, Key, Query
from flowstore.errors import NotFoundError, ResultTooLargeError, UnsupportedError
from flowstore.storage import RecordStorage
from flowstore.testing import HOSTILE
from flowstore.testing.concurrency import in_threads
from tests.storages.places import configuration, entry
from tests.storages.storage_kit import Recipe

pytest_plugins = ("tests.storages.every_storage",)
pytestmark = pytest.mark.each_time("sqlite", "redis")

SMALL = ("memory", "file", "sqlite")


@pytest.fixture
def store(recipe: Recipe) -> Iterator[FlowStore]:
    store = FlowStore(configuration(recipe))
    yield store
    store.close()


def records_of(store: FlowStore) -> RecordStorage:
    storage = store.storage("Results")
    assert isinstance(storage, RecordStorage)
    return storage


def test_m1_a_miss_sets_the_default_once(store: FlowStore) -> None:
    """Fifty threads ask at once: one value is stored, and all get it."""
    rounds = range(5)

    def work(barrier: Any, worker: int) -> list[object]:
        found = []
        for number in rounds:
            barrier.wait()
            found.append(store.get_or_store("flow", "task", str(number), lambda: [worker] * 1000))
        return found

    found = in_threads(work, 240, count=50)
    assert all(values == found[0] for values in found)
    for number in rounds:
        assert store.retrieve("flow", "task", str(number)) == found[0][number]
        again = store.get_or_store("flow", "task", str(number), lambda: ["another"])
        assert again == found[0][number]


def test_m1_the_default_is_not_called_where_a_value_is(store: FlowStore) -> None:
    store.store("flow", "task", "id", None)
    assert store.get_or_store("flow", "task", "id", lambda: pytest.fail("it was called")) is None


def test_m1_retrieving_never_writes(store: FlowStore) -> None:
    assert store.retrieve("flow", "task", "id", default="default") == "default"
    with pytest.raises(NotFoundError):
        store.retrieve("flow", "task", "id")
    assert store.retrieve_many([("flow", "task", "id")], default=None) == [None]
    assert records_of(store).count(Query()) == 0


@pytest.mark.parametrize("kind", SMALL)
def test_m2_small_deployments_need_no_server_and_are_thread_safe(store: FlowStore) -> None:
    done = threading.Event()

    def work(barrier: Any, worker: int) -> int:
        barrier.wait()
        if worker == 0:
            try:
                for number in range(50):
                    store.store("flow", "shared", "id", [number] * 500)
            finally:
                done.set()
            return 0
        torn = 0
        while not done.is_set():
            found = store.retrieve("flow", "shared", "id", default=[0] * 500)
            torn += len(found) != 500 or len(set(found)) != 1
            store.store("flow", "own", str(worker), worker)
            torn += store.retrieve("flow", "own", str(worker)) != worker
        return torn

    assert in_threads(work, 120) == [0] * 8


@pytest.mark.parametrize("position", [0, 1, 2], ids=["flow_name", "task_name", "task_id"])
def test_m3_keys_are_kept_exactly_as_given(store: FlowStore, position: int) -> None:
    keys = [Key(*("x" if place != position else part for place in range(3))) for part in HOSTILE]
    store.store_many([(key, number) for number, key in enumerate(keys)])
    assert store.retrieve_many(keys) == list(range(len(keys)))
    assert {ref.key for ref in records_of(store).ids(Query())} == set(keys)


def test_m4_clearing_may_be_refused(recipe: Recipe) -> None:
    store = FlowStore(configuration(recipe, allow_clear=False))
    store.store("flow", "task", "id", 1)
    attempts: list[Callable[[], int]] = [
        lambda: store.clear("Results"),
        lambda: store.purge("Results"),
        lambda: store.purge("Results", "result"),
        lambda: records_of(store).clear(),
        lambda: records_of(store).purge(),
    ]
    for refused in attempts:
        with pytest.raises(UnsupportedError, match="allow_clear"):
            refused()
    assert store.retrieve("flow", "task", "id") == 1
    assert store.delete("flow", "task", "id"), "what is named may be deleted"
    store.close()


def test_m4_clearing_clears(store: FlowStore) -> None:
    store.store_many([(("flow", "task", str(number)), number) for number in range(30)])
    assert store.clear("Results") == 30
    assert records_of(store).count(Query()) == 0


def test_m5_tests_never_use_the_production_store(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    source = configuration(recipe)
    source["storages"].append({"name": "Testing", "classname": "MemoryStorage"})
    for overridden in ("environment", "argument"):
        overrides = None
        if overridden == "environment":
            monkeypatch.setenv("FLOWSTORE_GLOBAL__DEFAULT_STORAGE", "Testing")
        else:
            monkeypatch.delenv("FLOWSTORE_GLOBAL__DEFAULT_STORAGE")
            overrides = {"global.default_storage": "Testing"}
        store = FlowStore(source, overrides=overrides)
        store.store("flow", "task", "id", 1)
        assert store.retrieve("flow", "task", "id") == 1
        assert store.task_storage("flow", "task") is store.storage("Testing")
        assert records_of(store).count(Query()) == 0, "production was written to"
        store.close()


def test_m6_a_result_that_is_too_large_is_refused_before_anything_is_written(recipe: Recipe) -> None:
    store = FlowStore(configuration(recipe, max_result_size=1000))
    store.store("flow", "task", "id", "small")
    for value in ("x" * 1001, ["y" * 100] * 20):
        with pytest.raises(ResultTooLargeError, match="max_result_size"):
            store.store("flow", "task", "id", value)
        with pytest.raises(ResultTooLargeError):
            store.store("flow", "task", "other", value)
    assert store.retrieve("flow", "task", "id") == "small"
    assert records_of(store).count(Query()) == 1
    store.close()


def test_m6_what_was_not_stored_is_not_cached(recipe: Recipe) -> None:
    store = FlowStore(configuration(recipe, max_result_size=1000, cache={"classname": "LRU", "size": 10}))
    store.store("flow", "task", "id", "small")
    assert store.retrieve("flow", "task", "id") == "small"
    with pytest.raises(ResultTooLargeError):
        store.store("flow", "task", "id", "x" * 1001)
    assert store.retrieve("flow", "task", "id") == "small"
    store.close()


def test_m7_one_call_attaches(store: FlowStore) -> None:
    app = Celery("rows", set_as_current=False)
    app.conf.task_always_eager = True
    task = app.task(name="task", shared=False)(_result)
    store.attach(app)
    sent = task.apply_async()
    assert store.retrieve("task", "task", sent.id) == "result"
    app.close()


def _result() -> str:
    return "result"


def test_m7_a_misspelt_option_raises(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="on_conflct"):
        FlowStore({"storages": [entry(recipe, on_conflct="keep")]})
    with pytest.raises(ConfigurationError, match="misspelt"):
        FlowStore({"storages": [entry((recipe[0], recipe[1] | {"misspelt": 1}))]})
    options: dict[str, Any] = {"ap": Celery("rows", set_as_current=False)}
    with pytest.raises(TypeError, match="'ap'"):
        FlowStore(configuration(recipe), **options)
