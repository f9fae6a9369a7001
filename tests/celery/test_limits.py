"""What the configuration says of expiry and size holds for what tasks leave, too."""

from __future__ import annotations

from celery import Celery

from flowstore import FlowStore, Query, RecordStorage
from flowstore.record import ERROR, RESULT


def make() -> tuple[Celery, FlowStore]:
    app = Celery("limits", broker="memory://", backend="cache+memory://")
    app.conf.task_always_eager = True
    storage = {"name": "S", "classname": "MemoryStorage", "expires": "2h", "max_result_size": 20}
    store = FlowStore(
        {
            "storages": [storage],
            "flows": [{"name": "own", "expires": "1h"}],
            "tasks": [{"name": "short", "expires": 60}],
            "global": {"default_storage": "S"},
        },
        app=app,
    )

    @app.task(name="echo", shared=False)
    def echo(value: object) -> object:
        return value

    @app.task(name="short", shared=False)
    def short(value: object) -> object:
        raise ValueError(value)

    return app, store


def kept(store: FlowStore, kind: str) -> dict[tuple[str, str], float | None]:
    storage = store.storage("S")
    assert isinstance(storage, RecordStorage)
    return {
        (one.key.flow_name, one.key.task_name): one.expires_at and one.expires_at - one.stored_at
        for one in storage.records(Query((kind,)))
    }


def test_what_tasks_leave_expires_as_configured() -> None:
    app, store = make()
    for flow_name in ("own", "other"):
        store.start(flow_name, app.signature("echo", (1,)))
        store.start(flow_name, app.signature("short", (1,)))
    assert kept(store, RESULT) == {("own", "echo"): 3600, ("other", "echo"): 7200}
    assert kept(store, ERROR) == {("own", "short"): 60, ("other", "short"): 60}


def test_a_result_that_is_too_large_fails_its_task() -> None:
    app, store = make()
    result = app.signature("echo", ("x" * 100,)).apply_async()
    assert result.state == "FAILURE"
    assert store.retrieve("echo", "echo", result.id, default="none") == "none"
    assert store.retrieve_error("echo", "echo", result.id).failure.type_name == "ResultTooLargeError"
