"""Tasks that end in every way in which a task can end, for the app of the tests."""

from __future__ import annotations

import os
import time
from functools import wraps
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject

from tests.celery.adapters import note


class NeedsArgs(Exception):
    """One that can't be pickled, so that Celery hands on a stand-in."""

    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(f"{a}{b}")


class Rounds(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return round(super().__call__(*args, **kwargs), 2)


class Skips(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return "skipped"


class Forgives(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.run(*args, **kwargs)
        except ZeroDivisionError:
            return "forgiven"


class Refuses(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        super().__call__(*args, **kwargs)
        raise ValueError("refused")


class RetriesAround(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.retries < 2:
            raise self.retry(exc=OSError(f"locked {self.request.retries}"), countdown=0)
        return super().__call__(*args, **kwargs)


class RetriesBefore(Task):
    def before_start(self, *_: Any) -> None:
        if self.request.retries < 2:
            raise self.retry(exc=OSError(f"locked {self.request.retries}"), countdown=0)


class FailsBefore(Task):
    def before_start(self, *_: Any) -> None:
        raise ValueError("not started")


def third() -> float:
    return 1 / 3


def divide() -> float:
    return 1 / 0


def nothing() -> None:
    pass


def numbers() -> set[float]:
    return {1.5, 2.5}


def thing() -> object:
    return object()


def sleep() -> None:
    time.sleep(60)


def leave() -> None:
    os._exit(3)


def register(app: Celery, folder: Path) -> None:
    """Give an app all tasks; the folder is where they leave traces."""
    _returning(app)
    _failing(app)
    _retrying(app)
    _lost(app, folder)


def _returning(app: Celery) -> None:
    app.task(name="end returns")(third)
    app.task(name="end returns nothing")(nothing)
    app.task(name="end own call rounds", base=Rounds)(third)
    app.task(name="end own call skips", base=Skips)(divide)
    app.task(name="end own call forgives", base=Forgives)(divide)
    app.task(name="end own backend", backend=app._get_backend())(third)
    app.task(name="end second name")(app.tasks["end returns"].run)

    @app.task(name="end wraps another")
    @wraps(app.tasks["end returns"].run)
    def wraps_another() -> float:
        return 2 * third()

    class Registered(Task):
        name = "end registered"

        def run(self) -> float:
            return third()

    app.tasks.register(Registered())
    app.tasks["end registered"].bind(app)

    @app.task(name="end calls itself")
    def factorial(n: int = 5) -> int:
        return 1 if n <= 1 else n * int(factorial(n - 1))

    @app.task(name="end applies itself")
    def applied(n: int = 3) -> int:
        return 1 if n <= 1 else n * int(applied.apply((n - 1,)).get(disable_sync_subtasks=False))


def _failing(app: Celery) -> None:
    app.task(name="end fails")(divide)
    app.task(name="end fails before it starts", base=FailsBefore)(third)
    app.task(name="end own call refuses", base=Refuses)(third)
    app.task(name="end own backend fails", backend=app._get_backend())(divide)
    app.task(name="end returns what has no form")(thing)
    app.task(name="end successor can't be sent")(numbers)

    @app.task(name="end can't be pickled")
    def cannot_be_pickled() -> None:
        raise NeedsArgs(1, b=2)

    @app.task(name="end ignores")
    def ignores() -> None:
        raise Ignore

    @app.task(name="end rejects")
    def rejects() -> None:
        raise Reject("rejected")


def _retrying(app: Celery) -> None:
    app.task(name="end own call retries", base=RetriesAround)(third)
    app.task(name="end retries before it starts", base=RetriesBefore)(third)
    app.task(name="end retries unheard", base=RetriesBefore, ignore_result=True)(third)
    often: Any = {"max_retries": 2, "default_retry_delay": 0, "retry_backoff": False}

    @app.task(name="end retries", bind=True, autoretry_for=(OSError,), **often)
    def retries(self: Task) -> float:
        if self.request.retries < 2:
            raise OSError(f"locked {self.request.retries}")
        return third()

    @app.task(name="end retries too often", autoretry_for=(ZeroDivisionError,), **often)
    def retries_too_often() -> float:
        return divide()

    @app.task(name="end retries what can't be pickled", autoretry_for=(NeedsArgs,), **often)
    def retries_what_cannot_be_pickled() -> None:
        raise NeedsArgs(1, b=2)


def _lost(app: Celery, folder: Path) -> None:
    app.task(name="end too long for itself", soft_time_limit=1)(sleep)
    app.task(name="end too long", time_limit=1)(sleep)
    app.task(name="end lost")(leave)

    @app.task(name="end lost once", retry_on_worker_lost=True, default_retry_delay=0, bind=True)
    def lost_once(self: Task) -> float:
        lost = folder / f"lost {self.request.id}"
        if not lost.exists():
            note(lost, "once")
            os._exit(3)
        return third()
