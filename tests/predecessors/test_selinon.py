"""Selinon's rows, in every storage, as an application meets them.

Rows of its configuration (S1 to S5) are tested with the configuration, in tests/config and tests/store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cachetools
import pytest
from celery import Celery

import flowstore.storages
from flowstore import FlowStore, Key, Query
from flowstore.errors import (
    ConflictError,
    CorruptError,
    ExpiredError,
    NotFoundError,
    ReadonlyError,
    ResultSchemaError,
    UnreachableError,
)
from flowstore.record import RESULT, Record
from flowstore.storage import RecordStorage
from flowstore.testing import record
from flowstore.testing.concurrency import in_threads
from tests.storages.places import SHARED, configuration, unreachable
from tests.storages.storage_kit import Recipe

pytest_plugins = ("tests.storages.every_storage",)
pytestmark = pytest.mark.each_time("sqlite", "redis")

Make = Callable[..., FlowStore]
shared = pytest.mark.parametrize("kind", SHARED)
CACHES = ("FIFO", "LIFO", "LRU", "MRU", "RR")


@pytest.fixture
def make(recipe: Recipe) -> Iterator[Make]:
    """Make a FlowStore of the place: ``tasks``, and further keys of the storage's entry."""
    made: list[FlowStore] = []

    def make(tasks: list[dict[str, Any]] | None = None, **keys: Any) -> FlowStore:
        source = configuration(recipe, **keys)
        store = FlowStore(source | {"tasks": tasks} if tasks else source)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: Make) -> FlowStore:
    return make()


@pytest.fixture
def nowhere(kind: str, tmp_path: Path) -> Recipe:
    """A place that can't be reached; memory always can."""
    return unreachable(kind, tmp_path)


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("rows", set_as_current=False)
    app.conf.task_always_eager = True
    yield app
    app.close()


def test_s06_an_adapter_is_thread_safe(store: FlowStore) -> None:
    def work(barrier: Any, worker: int) -> list[int]:
        barrier.wait()
        for number in range(5):
            store.store("flow", f"task {worker}", str(number), worker)
        return [store.retrieve("flow", f"task {worker}", str(number)) for number in range(5)]

    assert in_threads(work, 120) == [[worker] * 5 for worker in range(8)]


def test_s07_store_takes_the_whole_key_and_returns_the_records_id(store: FlowStore) -> None:
    first = store.store("flow", "task", "id", 1)
    assert first
    others = [("other", "task", "id"), ("flow", "other", "id"), ("flow", "task", "other")]
    ids = [store.store(*names, number) for number, names in enumerate(others)]
    assert len({first, *ids}) == 4
    assert store.store("flow", "task", "id", 2) == first, "the same record"


def test_s08_retrieve_looks_at_all_three_parts_of_the_key(store: FlowStore) -> None:
    store.store("flow", "task", "id", "mine")
    for names in [("other", "task", "id"), ("flow", "other", "id"), ("flow", "task", "other")]:
        with pytest.raises(NotFoundError):
            store.retrieve(*names)
    storage = store.storage("Results")
    assert isinstance(storage, RecordStorage)
    found = list(storage.records(Query((RESULT,), task_id="id")))
    assert [one.key for one in found] == [Key("flow", "task", "id")], "by the id alone: an explicit query"


def test_s09_a_miss_is_one_error(store: FlowStore) -> None:
    with pytest.raises(NotFoundError):
        store.retrieve("flow", "task", "id")
    assert store.retrieve("flow", "task", "id", default="default") == "default"


def test_s09_expired_and_corrupt_are_others(store: FlowStore) -> None:
    storage = store.storage("Results")
    assert isinstance(storage, RecordStorage)
    storage.put(record(Key("flow", "task", "expired"), 1, expires_at=storage.now() - 1))
    with pytest.raises(ExpiredError):
        store.retrieve("flow", "task", "expired")
    whole = record(Key("flow", "task", "corrupt"), [1])
    storage.put(Record(whole.ref, b"[2]", whole.headers))
    with pytest.raises(CorruptError) as caught:
        store.retrieve("flow", "task", "corrupt")
    assert not isinstance(caught.value, NotFoundError)


@shared
def test_s09_unreachable_is_another(nowhere: Recipe) -> None:
    store = FlowStore(configuration(nowhere, on_store_error="fail"))
    with pytest.raises(UnreachableError) as caught:
        store.retrieve("flow", "task", "id", default="default")
    assert not isinstance(caught.value, NotFoundError)
    assert caught.value.storage == "Results"
    store.close()


def test_s10_redelivery_stores_once_more_without_harm(make: Make) -> None:
    for policy in ("replace", "keep", "error"):
        store = make(on_conflict=policy)
        for _ in range(3):
            store.store("flow", policy, "id", {"a": 1})
        assert store.retrieve("flow", policy, "id") == {"a": 1}


def test_s10_another_result_follows_the_policy(make: Make) -> None:
    for policy, left in (("replace", "new"), ("keep", "old"), ("error", "old")):
        store = make(on_conflict=policy)
        store.store("flow", policy, "id", "old")
        if policy == "error":
            with pytest.raises(ConflictError):
                store.store("flow", policy, "id", "new")
        else:
            store.store("flow", policy, "id", "new")
        assert store.retrieve("flow", policy, "id") == left


def test_s11_errors_are_stored_and_come_back(store: FlowStore) -> None:
    try:
        raise ValueError("bad é")
    except ValueError as exc:
        store.store_error({"args": [1]}, "flow", "task", "id", (ValueError, exc, exc.__traceback__))
    found = store.retrieve_error("flow", "task", "id")
    assert (found.failure.type_name, found.failure.message) == ("ValueError", "bad é")
    with pytest.raises(NotFoundError):
        store.retrieve("flow", "task", "id")


def test_s11_a_retried_task_leaves_its_result_and_the_errors_of_its_attempts(store: FlowStore, app: Celery) -> None:
    store.attach(app)

    @app.task(bind=True, name="retried", max_retries=3, shared=False)
    def retried(self: Any) -> str:
        if self.request.retries < 2:
            raise self.retry(exc=ValueError(f"attempt {self.request.retries}"), countdown=0)
        return "done"

    run = store.start("flow", retried.s())
    (task,) = run.tasks()
    assert store.retrieve("flow", "retried", task.id) == "done"
    errors = store.errors("flow", "retried", task.id)
    assert [error.failure.message for error in errors] == ["attempt 0", "attempt 1"]
    assert store.retrieve_error("flow", "retried", task.id, default=None) is None, "no error ended it"


@shared
@pytest.mark.parametrize("policy", ["fail", "log"])
def test_s12_the_tasks_own_error_is_what_is_reported(nowhere: Recipe, app: Celery, policy: str) -> None:
    store = FlowStore(configuration(nowhere, on_store_error=policy), app=app)

    @app.task(name="fails", shared=False)
    def fails() -> None:
        raise KeyError("the task's own")

    result = fails.apply_async()
    assert isinstance(result.result, KeyError)
    store.close()


@shared
def test_s12_a_failing_store_follows_its_policy(nowhere: Recipe, app: Celery) -> None:
    for policy in ("fail", "log"):
        mine = Celery(policy, set_as_current=False)
        mine.conf.task_always_eager = True
        store = FlowStore(configuration(nowhere, on_store_error=policy), app=mine)

        @mine.task(name="works", shared=False)
        def works() -> str:
            return "result"

        result = works.apply_async()
        if policy == "log":
            assert result.result == "result"
        else:
            assert isinstance(result.result, UnreachableError)
        store.close()
        mine.close()


def test_s13_none_is_a_result(store: FlowStore) -> None:
    store.store("flow", "task", "id", None)
    assert store.retrieve("flow", "task", "id", default="default") is None


@shared
def test_s14_storage_readonly_writes_nothing(make: Make) -> None:
    make().store("flow", "task", "id", "old")
    store = make([{"name": "task", "storage_readonly": True}])
    for change in (lambda: store.store("flow", "task", "id", "new"), lambda: store.delete("flow", "task", "id")):
        with pytest.raises(ReadonlyError):
            change()
    assert store.retrieve("flow", "task", "id") == "old"


@shared
def test_s15_storage_task_name_is_translated_everywhere(make: Make) -> None:
    store = make([{"name": "shop.tasks.price", "storage_task_name": "price"}])
    store.store("flow", "shop.tasks.price", "id", 3)
    assert store.retrieve("flow", "shop.tasks.price", "id") == store.retrieve("flow", "price", "id") == 3
    assert make().retrieve("flow", "price", "id") == 3, "that is the name it is stored under"
    assert store.delete("flow", "shop.tasks.price", "id")
    assert store.retrieve("flow", "price", "id", default=None) is None


def test_s16_an_invalid_result_stores_nothing(make: Make, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object", "required": ["price"]}')
    store = make([{"name": "task", "output_schema": str(tmp_path / "schema.json")}])
    store.store("flow", "task", "id", {"price": 3})
    with pytest.raises(ResultSchemaError):
        store.store("flow", "task", "id", {"no": "price"})
    assert store.retrieve("flow", "task", "id") == {"price": 3}


@shared
def test_s17_delete_is_seen_by_a_second_connection(make: Make) -> None:
    one, other = make(), make()
    one.store("flow", "task", "id", 1)
    one.store_error(None, "flow", "task", "id", ValueError("x"))
    assert other.retrieve("flow", "task", "id") == 1
    assert one.delete("flow", "task", "id") is True
    with pytest.raises(NotFoundError):
        other.retrieve("flow", "task", "id")
    with pytest.raises(NotFoundError):
        other.retrieve_error("flow", "task", "id")
    assert other.delete("flow", "task", "id") is False


@pytest.mark.parametrize("cache", CACHES)
def test_s18_a_cache_is_never_stale_after_store_or_delete(make: Make, cache: str) -> None:
    store = make(cache={"classname": cache, "size": 2})
    for value in ("first", "second"):
        for number in range(4):
            store.store("flow", "task", str(number), [value, number])
            store.store("other", "task", str(number), "another key")
            for _ in range(2):
                assert store.retrieve("flow", "task", str(number)) == [value, number]
    store.delete("flow", "task", "3")
    assert store.retrieve("flow", "task", "3", default="gone") == "gone"


def test_s18_a_failing_cache_fails_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> Any:
        raise RuntimeError("the cache is broken")

    store = make(cache={"classname": "LRU", "size": 10})
    store.store("flow", "task", "id", 1)
    monkeypatch.setattr(cachetools.LRUCache, "__setitem__", broken)
    monkeypatch.setattr(cachetools.LRUCache, "__getitem__", broken)
    assert [store.retrieve("flow", "task", "id") for _ in range(3)] == [1, 1, 1]


def test_s24_the_adapter_itself_is_handed_out(store: FlowStore, recipe: Recipe) -> None:
    storage = store.storage("Results")
    assert type(storage) is getattr(flowstore.storages, recipe[0])
    assert storage is store.storage("Results") is store.task_storage("flow", "task")
    assert storage.is_connected()


def test_s25_each_kind_of_storage_is_there(store: FlowStore) -> None:
    values: list[object] = [None, True, 1.5, "é\0", [1, {"a": None}], {"b": b"\xff", "t": (1, 2)}]
    for number, value in enumerate(values):
        store.store("flow", "task", str(number), value)
    assert [store.retrieve("flow", "task", str(number)) for number in range(len(values))] == values


def test_s25_all_kinds_are_covered() -> None:
    covered = {"MemoryStorage", "FileStorage", "SqlStorage", "RedisStorage", "MongoStorage", "S3Storage"}
    assert covered | {"RoutingStorage"} >= set(flowstore.storages.__all__) >= covered
