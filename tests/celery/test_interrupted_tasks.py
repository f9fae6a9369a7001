"""A soft time limit that strikes while flowstore works is the task's, and takes nothing from a task that is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded

from flowstore import FlowStore
from tests.struck import Full, Struck

INSIDE = ("connect", "store", "retrieve")


SEEN: list[str] = []
"""What the task's code got."""


@pytest.fixture(params=[("Plain", "retry"), ("Full", "retry"), ("Full", "log")], ids=" ".join)
def deliver(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Run a task as a worker does; return Celery's state, and the store."""
    app = Celery("interrupted", broker="memory://", backend="cache+memory://", set_as_current=False)
    classname, policy = request.param
    entry = {"name": "S", "classname": classname, "import": "tests.struck", "on_store_error": policy}
    SEEN.clear()
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}}, app=app)

    @app.task(name="asking", shared=False)
    def asking() -> str:
        try:
            store.retrieve("f", "t", "other", default=None)
            store.store("f", "t", "other", 1)
        except SoftTimeLimitExceeded as exc:
            SEEN.append(type(exc).__name__)
            return "in time"
        return "never"

    @app.task(name="giving", shared=False)
    def giving() -> str:
        return "done"

    @app.task(name="failing", shared=False)
    def failing() -> None:
        raise ValueError("the task's own")

    app.finalize()

    def run(name: str, method: str) -> tuple[str, FlowStore]:
        Struck.method, Struck.error = method, SoftTimeLimitExceeded()
        request = {"id": f"{name}-{method}", "task": name, "args": [], "kwargs": {}, "hostname": "w", "is_eager": False}
        request |= {"delivery_info": {}, "root_id": f"{name}-{method}", "parent_id": None, "retries": 0, "headers": {}}
        request |= {"called_directly": False, "correlation_id": f"{name}-{method}"}
        build_tracer(name, app.tasks[name], app=app)(request["id"], [], {}, request=request)
        return app.backend.get_state(request["id"]), store

    yield run
    store.close()
    app.close()


@pytest.mark.parametrize("method", INSIDE)
def test_the_tasks_code_gets_the_limit_that_strikes_in_a_call_of_its_own(deliver: Any, method: str) -> None:
    state, store = deliver("asking", method)
    assert (state, SEEN) == ("SUCCESS", ["SoftTimeLimitExceeded"])
    assert store.retrieve("asking", "asking", f"asking-{method}") == "in time"


def test_a_limit_that_strikes_while_a_result_is_stored_ends_the_task(deliver: Any) -> None:
    state, store = deliver("giving", "store")
    assert state == "FAILURE"
    assert store.retrieve("giving", "giving", "giving-store", default="none") == "none"


def test_a_limit_that_strikes_while_an_error_is_stored_takes_nothing_from_it(deliver: Any) -> None:
    state, store = deliver("failing", "store_error")
    assert (state, Struck.error) == ("FAILURE", None)
    storage = store.storage("S")
    if isinstance(storage, Full):
        assert store.retrieve_error("failing", "failing", "failing-store_error").failure.message == "the task's own"
    else:
        assert str(storage.values["error", "failing-store_error"]) == "the task's own"
