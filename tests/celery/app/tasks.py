"""Tasks of every kind, for the app of the tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery, Task, chain, chord, group, shared_task
from celery.exceptions import Ignore, Reject

from flowstore import Key, current
from tests.celery.adapters import note

LETTERS = "abcdefgh"


def register(app: Celery, folder: Path) -> None:
    """Give an app all tasks; the folder is where they leave traces."""
    _letters(app)
    _kinds(app)
    _flows(app)
    _endings(app, folder)
    _storing(app, folder)


def look() -> dict[str, Any]:
    """Return what a task can learn about itself and its parents."""
    here = current()
    return {
        "flow": here.flow_name,
        "run": here.run_id,
        "task": here.task_name,
        "attempt": here.attempt,
        "parents": [[key.task_name, key.task_id] for key in here.parents()],
    }


def double(x: int) -> int:
    return 2 * x


@shared_task(name="shared")
def shared(x: int) -> int:
    return 2 * x


def _letters(app: Celery) -> None:
    """Register tasks that return their letter, and the letters of their parents by the names of these."""
    for letter in LETTERS:

        def tell(*_: Any, letter: str = letter) -> dict[str, Any]:
            here = current()
            saw = {name: [_letter(one) for one in found] for name, found in here.parent_results().items()}
            return {"is": letter, "saw": saw, "flow": here.flow_name, "run": here.run_id}

        app.task(name=letter)(tell)


def _letter(result: Any) -> str | None:
    return result.get("is") if isinstance(result, dict) else None


def _kinds(app: Celery) -> None:
    class Counting(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.run(*args, **kwargs)

    class Calling(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    class ByClass(Task):
        name = "by_class"

        def run(self, x: int) -> int:
            return 2 * x

    app.register_task(ByClass())
    app.task(name="plain")(double)
    app.task(name="own_call", base=Counting)(double)
    app.task(name="own_call_to_super", base=Calling)(double)
    app.task(name="ignoring_result", ignore_result=True)(double)

    @app.task(name="bound", bind=True)
    def bound(self: Task, x: int) -> int:
        return 2 * x if self.request.called_directly or self.request.id == current().task_id else -1

    @app.task(name="pydantic_task", pydantic=True)
    def pydantic_task(x: int) -> int:
        return 2 * x

    @app.task(name="calling_directly")
    def calling_directly(x: int) -> Any:
        return [app.tasks["plain"](x), app.tasks["plain"].run(x), app.tasks["bound"](x)]

    @app.task(name="applying")
    def applying(x: int) -> Any:
        return app.tasks["plain"].apply((x,), task_id=f"{current().task_id}-inner").get(disable_sync_subtasks=False)


def _flows(app: Celery) -> None:
    def letters(names: str) -> list[Any]:
        return [app.tasks[name].si() for name in names]

    @app.task(name="look")
    def look_around(*_: Any) -> Any:
        return look()

    @app.task(name="errback")
    def errback(task_id: str) -> Any:
        return look()

    @app.task(name="spawn")
    def spawn(what: str) -> str:
        a, b, c = letters("abc")
        make: dict[str, Callable[[], Any]] = {
            "task": lambda: a,
            "chain": lambda: chain(a, b, c),
            "chord": lambda: chord([a, b], c),
            "queue": lambda: a.set(queue="other"),
        }
        make[what]().apply_async()
        return what

    @app.task(name="spawn_by_another_app")
    def spawn_by_another_app() -> None:
        other = Celery("other", broker=app.conf.broker_url, set_as_current=False)
        other.conf.broker_transport_options = app.conf.broker_transport_options
        other.send_task("a")
        other.close()

    @app.task(name="replace", bind=True)
    def replace(self: Task, what: str) -> Any:
        a, b, c = letters("abc")
        make: dict[str, Callable[[], Any]] = {
            "task": lambda: a,
            "chain": lambda: chain(a, b),
            "group": lambda: group(a, b),
            "chord": lambda: chord([a, b], c),
        }
        return self.replace(make[what]())

    @app.task(name="begin")
    def begin(flow_name: str) -> Any:
        run = current().store.start(flow_name, app.tasks["plain"].s(21))
        # Waiting in a task for another one is forbidden by Celery's own result; a flow run is just data.
        run.get(timeout=60)
        return {"child": run.id, "result": current().parent_flow_result(flow_name, "plain")}

    @app.task(name="parent_errors")
    def parent_errors(task_id: str) -> Any:
        return {error.key.task_name: error.failure.summary for error in current().parent_task_exceptions("fail")}


def _endings(app: Celery, folder: Path) -> None:
    @app.task(name="fail")
    def fail(message: str = "no luck", *_: Any) -> None:
        try:
            dict[str, int]()["missing"]
        except KeyError as exc:
            raise ValueError(message) from exc

    for name in ("unstored_fail", "ledger_fail", "results_only_fail", "broken_fail"):
        app.task(name=name)(fail.run)

    @app.task(name="fail_strangely")
    def fail_strangely() -> None:
        class StrangeError(Exception):
            def __init__(self, *, lock: Any) -> None:
                super().__init__("strange")
                self.lock = lock

        raise StrangeError(lock=threading.Lock())

    @app.task(name="fail_below_exception")
    def fail_below_exception() -> None:
        raise KeyboardInterrupt

    @app.task(
        name="autoretried",
        bind=True,
        autoretry_for=(ValueError,),
        max_retries=3,
        retry_backoff=False,
        default_retry_delay=0,
    )
    def autoretried(self: Task, failures: int, parent: Any = None) -> Any:
        if self.request.retries < failures:
            raise ValueError(f"attempt {self.request.retries + 1}")
        return look()

    @app.task(name="retried_with_exc", bind=True, max_retries=2, default_retry_delay=0)
    def retried_with_exc(self: Task, failures: int) -> Any:
        try:
            if self.request.retries < failures:
                raise OSError(f"attempt {self.request.retries + 1}")
        except OSError as exc:
            raise self.retry(exc=exc) from exc
        return look()

    @app.task(name="retried_bare", bind=True, max_retries=2, default_retry_delay=0)
    def retried_bare(self: Task, failures: int) -> Any:
        if self.request.retries < failures:
            raise self.retry()
        return look()

    @app.task(name="ignored")
    def ignored() -> None:
        raise Ignore

    @app.task(name="rejected", acks_late=True)
    def rejected() -> None:
        raise Reject("no", requeue=False)

    @app.task(name="sleep")
    def sleep(seconds: float = 3600) -> str:
        note(folder / "sleeping", current().task_id)
        time.sleep(seconds)
        return "slept"

    @app.task(name="die")
    def die(how: str) -> None:
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="redelivered_when_lost", bind=True, acks_late=True, reject_on_worker_lost=True)
    def redelivered_when_lost(self: Task) -> str:
        path = folder / f"lost-{self.request.id}"
        if not path.exists():
            path.touch()
            os._exit(3)
        return "second try"


def _storing(app: Celery, folder: Path) -> None:
    for name in (
        "aliased",
        "unstored",
        "readonly",
        "checked",
        "ledger",
        "results_only",
        "broken",
        "gated",
        "redelivered_keep",
        "redelivered_error",
        "echo",
    ):
        app.task(name=name)(_echo)
    for policy in ("retry", "fail", "log"):
        app.task(name=f"store_on_{policy}")(_echo)
        app.task(name=f"fail_on_{policy}")(app.tasks["fail"].run)

    @app.task(name="gated_successor")
    def gated_successor(given: Any) -> Any:
        note(folder / "gates" / "successor.started", current().task_id)
        ((name, task_id),) = look()["parents"]
        by_hand = current().storage.get(Key(current().flow_name, name, task_id)).revision  # type: ignore[attr-defined]
        return {"given": given, "stored": current().parent_task_result("gated"), "revision": by_hand}

    @app.task(name="unserializable")
    def unserializable(good: bool) -> Any:
        return {"rows": [{"when": 1 if good else threading}]}

    @app.task(name="own_pid")
    def own_pid(*_: Any) -> int:
        return os.getpid()

    @app.task(name="has_imported")
    def has_imported(module: str) -> list[Any]:
        return [os.getpid(), module in sys.modules]

    @app.task(name="ledger_pid")
    def ledger_pid(*_: Any) -> Any:
        storage: Any = current().store.storage("LedgerStorage")
        return [os.getpid(), storage.connection]

    # All threads of a worker reach the storage at the same moment.
    rendezvous = threading.Barrier(32)

    @app.task(name="meet")
    def meet() -> str:
        rendezvous.wait(60)
        storage: Any = current().store.storage("LedgerStorage")
        return str(storage.connection)


def _echo(value: Any = None, *_: Any) -> Any:
    return value
