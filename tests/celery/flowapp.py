"""A Celery app with tasks of every kind, whose broker, result backend and storages are in one folder."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kombu.transport
from celery import Celery, Task, chain, chord, group, shared_task
from celery.exceptions import Ignore, Reject
from kombu.transport import filesystem
from kombu.utils.json import dumps

from flowstore import FlowStore, Key, current
from tests.celery.adapters import note

LETTERS = "abcdefgh"


class App(Celery):
    """Keep its tasks to itself; Celery would give them to every other app of the process as well."""

    def task(self, *args: Any, **options: Any) -> Any:
        return super().task(*args, **{"shared": False, **options})


class Channel(filesystem.Channel):
    """A message appears in the folder complete: one that is read while it is being written would end the worker."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        path = Path(self.data_folder_out, f"{time.monotonic_ns():020}_{uuid.uuid4()}.{queue}.msg")
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(dumps(payload))  # type: ignore[no-untyped-call]
        unfinished.rename(path)


class Transport(filesystem.Transport):
    Channel = Channel


kombu.transport.TRANSPORT_ALIASES["folder"] = f"{__name__}:Transport"


def default_settings(folder: Path, **configuration: Any) -> dict[str, Any]:
    """Return settings for a folder: no server, and a storage of each kind."""

    def database(name: str) -> dict[str, Any]:
        return {"connection_string": f"sqlite:///{folder}/{name}.db"}

    def switched(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "classname": "SwitchedStorage",
            "import": "tests.celery.adapters",
            "configuration": {**database(name.lower() + "-switched"), "switch": f"{folder}/switch"},
            "on_store_error": name.lower(),
        }

    def own(name: str, **arguments: Any) -> dict[str, Any]:
        return {"name": name, "import": "tests.celery.adapters", "configuration": arguments}

    return {
        "broker": "folder://",
        "backend": f"file://{folder}/results",
        "celery": {},
        "configuration": {
            "storages": [
                {"name": "Main", "classname": "SqlStorage", "configuration": database("main")},
                {"name": "Keep", "classname": "SqlStorage", "configuration": database("keep"), "on_conflict": "keep"},
                {
                    "name": "Error",
                    "classname": "SqlStorage",
                    "configuration": database("error"),
                    "on_conflict": "error",
                },
                switched("Retry"),
                switched("Fail"),
                switched("Log"),
                own("LedgerStorage", folder=f"{folder}/ledger"),
                own("ResultsOnlyStorage", folder=f"{folder}/ledger"),
                own("BrokenStorage"),
                own("GatedStorage", **database("gated"), gates=f"{folder}/gates"),
            ],
            "tasks": [
                {"name": "aliased", "storage": "Main", "storage_task_name": "nickname"},
                {"name": "unstored", "storage": None},
                {"name": "unstored_fail", "storage": None},
                {"name": "readonly", "storage": "Main", "storage_readonly": True},
                {"name": "checked", "storage": "Main", "output_schema": f"{folder}/checked.json"},
                {"name": "ledger", "storage": "LedgerStorage"},
                {"name": "ledger_fail", "storage": "LedgerStorage"},
                {"name": "results_only", "storage": "ResultsOnlyStorage"},
                {"name": "results_only_fail", "storage": "ResultsOnlyStorage"},
                {"name": "broken", "storage": "BrokenStorage"},
                {"name": "broken_fail", "storage": "BrokenStorage"},
                *(
                    {"name": f"{what}_on_{policy.lower()}", "storage": policy}
                    for what in ("store", "fail")
                    for policy in ("Retry", "Fail", "Log")
                ),
                *({"name": f"redelivered_{policy}", "storage": policy.title()} for policy in ("keep", "error")),
                {"name": "gated", "storage": "GatedStorage"},
                {"name": "gated_successor", "storage": "GatedStorage"},
            ],
            "global": {"default_storage": "Main"},
            **configuration,
        },
    }


def build(folder: Path) -> tuple[Celery, FlowStore]:
    """Make the app of a folder from the settings in it; in clients and workers alike."""
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "checked.json").write_text(json.dumps({"properties": {"price": {"type": "number"}}}))
    app = App("flowapp", broker=settings["broker"], backend=settings["backend"])
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "data_folder_in": f"{folder}/broker",
            "data_folder_out": f"{folder}/broker",
            "processed_folder": f"{folder}/processed",
            "control_folder": f"{folder}/control",
            "store_processed": True,
            "polling_interval": 0.01,
        }
        if settings["broker"] == "folder://"
        else {"visibility_timeout": 3600},
        task_allow_error_cb_on_chord_header=True,
        worker_timer_precision=0.05,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )
    app.conf.update(settings["celery"])
    _early(app)
    store = FlowStore(settings["configuration"], app=app)
    _letters(app)
    _kinds(app)
    _flows(app, folder)
    _endings(app, folder)
    _storing(app, folder)
    app.finalize()
    app.task(name="after_finalize")(_double)
    return app, store


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


def _double(x: int) -> int:
    return 2 * x


@shared_task(name="shared")
def shared(x: int) -> int:
    return 2 * x


def _early(app: Celery) -> None:
    app.task(name="before_attach")(_double)


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
    app.task(name="plain")(_double)
    app.task(name="own_call", base=Counting)(_double)
    app.task(name="own_call_to_super", base=Calling)(_double)
    app.task(name="ignoring_result", ignore_result=True)(_double)

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


def _flows(app: Celery, folder: Path) -> None:
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
