"""What attaching changes of an app, and that detaching changes it back; late, twice, by whatever way tasks come."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task, signals
from celery.app.trace import build_tracer

from flowstore import ConfigurationError, FlowStore, NotFoundError

MEMORY = {"storages": [{"name": "MemoryStorage"}], "global": {"default_storage": "MemoryStorage"}}
SIGNALS = [
    signals.task_prerun, signals.task_postrun, signals.task_retry, signals.task_unknown, signals.task_internal_error,
    signals.worker_init,
    signals.worker_ready, signals.worker_process_shutdown, signals.worker_shutdown, signals.before_task_publish,
]  # fmt: skip


class Shouting(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return str(self.run(*args, **kwargs)).upper()


def make(name: str) -> Celery:
    app = Celery(name, broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="plain", shared=False)
    def plain(x: str, *, twice: bool = False) -> str:
        """Say it."""
        return x * (1 + twice)

    app.task(name="own call", base=Shouting, shared=False)(plain.run)
    app.task(name="retrying", autoretry_for=(OSError,), shared=False)(plain.run)
    app.task(name="own backend", backend=app._get_backend(), shared=False)(plain.run)
    return app


@pytest.fixture
def app() -> Iterator[Celery]:
    with make("detached") as app:
        yield app
        if (store := FlowStore.attached_to(app)) is not None:
            store.detach(app)


def state_of(app: Celery) -> dict[str, Any]:
    """Return everything that attaching may change."""
    app.finalize()
    found: dict[str, Any] = {"app": {name: value for name, value in vars(app).items() if name != "_tasks"}}
    found["registry"] = dict(vars(app._tasks))
    for name, task in app._tasks.items():
        found[name] = (type(task), {k: v for k, v in vars(task).items() if k not in ("_exec_options", "backend")})
    for backend in (app.backend, app._tasks["own backend"].backend):
        found[f"backend {id(backend)}"] = set(vars(backend))
    found["signals"] = [len(signal.receivers) for signal in SIGNALS]
    return found


def stored(store: FlowStore, name: str, value: str) -> bool:
    task_id = f"{name} {value}"
    try:
        return bool(store.retrieve(name, name, task_id) == value)
    except NotFoundError:
        return False


def run(app: Celery, name: str, value: str) -> Any:
    return app.tasks[name].apply((value,), task_id=f"{name} {value}").get()


NAMES = ["plain", "retrying", "own backend"]


def test_detaching_changes_everything_back(app: Celery) -> None:
    for name in NAMES:
        run(app, name, "before")  # what Celery makes at the first use
    before = state_of(app)
    store = FlowStore(MEMORY, app=app)
    assert state_of(app) != before
    for name in NAMES:
        run(app, name, "a")
        assert stored(store, name, "a")
    store.detach()
    after = state_of(app)
    assert {name: one for name, one in after.items() if before[name] != one} == {}
    for name in NAMES:
        assert run(app, name, "b") == "b"
        assert not stored(store, name, "b")
    assert FlowStore.attached_to(app) is None
    with pytest.raises(ConfigurationError, match="not attached"):
        store.detach()
    store.close()


def test_another_store_can_follow(app: Celery) -> None:
    first, second = FlowStore(MEMORY), FlowStore(MEMORY)
    for store in (first, second, first):
        store.attach(app)
        run(app, "own call", "a")
        assert store.retrieve("own call", "own call", "own call a") == "A"
        store.detach(app)
        store.delete("own call", "own call", "own call a")
    first.attach(app)
    with pytest.raises(ConfigurationError, match="not attached"):
        second.detach(app)


def test_tasks_that_come_after_detaching_are_left_alone(app: Celery) -> None:
    with Celery("pending", broker="memory://", set_as_current=False) as pending:
        pending.task(name="early", shared=False)(lambda_like)
        store = FlowStore(MEMORY, app=pending)
        store.detach(pending)
        pending.finalize()
        assert "run" not in vars(pending._tasks["early"])
    store = FlowStore(MEMORY, app=app)
    register = app._tasks.register
    store.detach(app)
    app.task(name="late", shared=False)(lambda_like)

    class Registered(Task):
        name = "registered"

        def run(self) -> None:
            pass

    register(Registered())  # somebody who kept it
    assert not any("run" in vars(app.tasks[name]) for name in ("late", "registered"))


def lambda_like() -> None:
    pass


def test_what_somebody_else_put_around_stays(app: Celery) -> None:
    store = FlowStore(MEMORY, app=app)
    app.finalize()
    task, calls = app._tasks["plain"], []
    inner = task.run

    def counted(*args: Any) -> Any:
        calls.append(args)
        return inner(*args)

    task.run = counted
    run(app, "plain", "a")
    assert stored(store, "plain", "a")
    store.detach()
    assert run(app, "plain", "b") == "b"
    assert calls == [("a",), ("b",)]
    assert not stored(store, "plain", "b")


def test_tasks_look_as_before(app: Celery) -> None:
    app.finalize()

    def looks(name: str) -> Any:
        task = app._tasks[name]
        return (
            inspect.signature(task.run), inspect.getdoc(task.run), task.run.__name__, task.__name__, task.__module__,
            task.__wrapped__, task.__doc__, isinstance(task, Shouting), repr(task), task.__reduce__(),
            task.request_stack, list(inspect.signature(task.__header__).parameters),
        )  # fmt: skip

    before = [looks(name) for name in ("plain", "own call", "retrying")]
    store = FlowStore(MEMORY, app=app)
    assert [looks(name) for name in ("plain", "own call", "retrying")] == before
    with pytest.raises(TypeError):
        app._tasks["plain"].apply_async(("a", "b", "c"))
    store.close()


def test_a_worker_that_runs_already_calls_what_is_attached(app: Celery) -> None:
    # As the children of a prefork pool do: they never build a tracer themselves.
    app.finalize()
    for name in ("plain", "own call"):
        task = app._tasks[name]
        task.__trace__ = build_tracer(name, task, app.loader, "here", app=app)
    store = FlowStore(MEMORY, app=app)

    def receive(name: str, task_id: str) -> Any:
        request = {"id": task_id, "task": name, "args": ["a"], "kwargs": {}, "root_id": task_id, "delivery_info": {}}
        return app._tasks[name].__trace__(task_id, ["a"], {}, request).retval

    for name, value in (("plain", "a"), ("own call", "A")):
        assert receive(name, "1") == repr(value)[1:-1] or receive(name, "1") == value
        assert store.retrieve(name, name, "1") == value
    store.detach()
    for name in ("plain", "own call"):
        receive(name, "2")
        assert store.retrieve(name, name, "2", default="nothing") == "nothing"


def test_one_task_in_two_apps_is_stored_by_each_for_itself(app: Celery) -> None:
    class Both(Task):
        name = "both"

        def run(self) -> int:
            return 2

    both = Both()
    with Celery("another", broker="memory://", backend="cache+memory://", set_as_current=False) as another:
        stores = {one: FlowStore(MEMORY, app=one) for one in (app, another)}
        for one in (app, another):
            one.register_task(both)
        for one in (app, another):
            one.set_current()
            both.apply(task_id=one.main)
        for one, store in stores.items():
            assert store.retrieve("both", "both", one.main) == 2
            others = {app.main, another.main} - {one.main}
            assert [store.retrieve("both", "both", name, default=None) for name in others] == [None]
            store.detach(one)
        assert both.apply(task_id="alone").get() == 2
        app.set_current()


def test_nothing_keeps_an_app_or_its_store_alive() -> None:
    def use(name: str) -> list[weakref.ref[Any]]:
        app = make(name)
        store = FlowStore(MEMORY, app=app)
        run(app, "own call", "a")
        run(app, "plain", "a")
        adapter = store.storage("MemoryStorage")
        return [weakref.ref(one) for one in (app, store, adapter)]

    use("the first one")  # what is made once
    dropped = [ref for number in range(3) for ref in use(f"app {number}")]
    gc.collect()
    assert [ref() for ref in dropped] == [None] * len(dropped)


def test_an_adapter_in_use_keeps_its_connection() -> None:
    adapter = FlowStore(MEMORY).storage("MemoryStorage")
    gc.collect()
    assert adapter.is_connected()
