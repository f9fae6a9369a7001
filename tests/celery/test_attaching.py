"""Attaching to an app, and what calls that no worker makes leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from flowstore import ConfigurationError, FlowStore, OutsideTaskError, Query, RecordStorage, current
from flowstore.record import Record
from flowstore.storages import MemoryStorage

MEMORY = {"storages": [{"name": "MemoryStorage"}], "global": {"default_storage": "MemoryStorage"}}


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("attached", broker="memory://", set_as_current=False) as app:

        @app.task(name="double", shared=False)
        def double(x: int) -> int:
            return 2 * x

        yield app


@pytest.fixture
def store(app: Celery) -> Iterator[FlowStore]:
    store = FlowStore(MEMORY, app=app)
    yield store
    store.close()


def records(store: FlowStore) -> list[Any]:
    storage = store.storage("MemoryStorage")
    assert isinstance(storage, RecordStorage)
    return list(storage.records(Query()))


def test_direct_calls_store_nothing(app: Celery, store: FlowStore) -> None:
    task = app.tasks["double"]
    assert [task(2), task.run(2), task.s(2)()] == [4, 4, 4]
    assert records(store) == []


def test_attaching_twice_stores_once(app: Celery, store: FlowStore) -> None:
    store.attach(app)
    writes: list[str] = []

    class Counted(MemoryStorage):
        def _put(self, record: Record, if_revision: int | None, now: float) -> int:
            writes.append(record.key.task_id)
            return super()._put(record, if_revision, now)

    store.storage("MemoryStorage").__class__ = Counted
    app.tasks["double"].apply((2,), task_id="one")
    assert writes == ["one"]
    assert [record.key.task_id for record in records(store)] == ["one"]


def test_a_second_store_is_refused_and_the_first_goes_on(app: Celery, store: FlowStore) -> None:
    with pytest.raises(ConfigurationError, match="app 'attached' already has a FlowStore attached"):
        FlowStore(MEMORY, app=app)
    app.tasks["double"].apply((2,), task_id="one")
    assert len(records(store)) == 1


def test_one_store_serves_two_apps(app: Celery, store: FlowStore) -> None:
    with Celery("another", broker="memory://", set_as_current=False) as another:

        @another.task(name="triple", shared=False)
        def triple(x: int) -> int:
            return 3 * x

        store.attach(another)
        app.tasks["double"].apply((2,), task_id="one")
        another.tasks["triple"].apply((2,), task_id="two")
    assert {record.key.task_name for record in records(store)} == {"double", "triple"}


def test_an_app_with_a_store_and_a_task_that_another_app_shares() -> None:
    with Celery("first", set_as_current=False) as first, Celery("second", set_as_current=False) as second:
        stores = [FlowStore(MEMORY, app=one) for one in (first, second)]

        @first.task
        def common() -> int:
            return 1

        second.finalize()
        common.apply(task_id="of the first")
        second.tasks[common.name].apply(task_id="of the second")
        assert [[record.key.task_id for record in records(store)] for store in stores] == [
            ["of the first"],
            ["of the second"],
        ]
        for store in stores:
            store.close()


def test_attaching_does_not_finalize_the_app(app: Celery, store: FlowStore) -> None:
    assert not app.finalized


def test_start_needs_an_attached_app(app: Celery) -> None:
    with pytest.raises(ConfigurationError, match="attach"):
        FlowStore(MEMORY).start("flow", app.signature("double", (1,)))


def test_a_flow_that_could_not_be_sent_leaves_no_run() -> None:
    class Refusing(Celery):
        def send_task(self, *args: Any, **kwargs: Any) -> Any:
            raise ConnectionRefusedError("no broker")

    with Refusing("refusing", set_as_current=False) as app:
        store = FlowStore(MEMORY, app=app)

        @app.task(shared=False)
        def nothing() -> None:
            pass

        with pytest.raises(ConnectionRefusedError):
            store.start("flow", nothing.s())
        assert store.runs("flow") == []
        assert records(store) == []
        store.close()


def test_current_outside_of_a_task() -> None:
    with pytest.raises(OutsideTaskError):
        current()


def test_current_in_a_task_that_is_called_directly(app: Celery, store: FlowStore) -> None:
    task = app.task(name="looking", shared=False)(current)
    with pytest.raises(OutsideTaskError):
        task()


@pytest.mark.parametrize("module", ["flowstore", "flowstore.store"])
def test_importing_imports_nothing_heavy(module: str) -> None:
    unwanted = ["celery", "kombu", "sqlalchemy", "redis", "pymongo", "boto3"]
    if module == "flowstore":
        unwanted += ["pydantic", "yaml", "tenacity", "jsonschema", "orjson"]
    program = f"import sys, {module}; print([name for name in {unwanted!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
