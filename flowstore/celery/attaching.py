"""Attach a FlowStore to a Celery app: to its tasks, those to come, its result backend, and its worker's shutdown."""

from __future__ import annotations

import functools
from typing import Any

from celery import Celery
from celery.app.task import Task
from celery.signals import worker_init, worker_process_shutdown, worker_shutdown

from flowstore.celery import propagation
from flowstore.celery.recording import record_body_failure, record_failure, record_revocation, wrap_run
from flowstore.errors import ConfigurationError
from flowstore.flow import FAILURE
from flowstore.store import APP_ATTRIBUTE, FlowStore


def attach(store: FlowStore, app: Celery) -> None:
    """Keep the results and errors of every task of an app. See ``FlowStore.attach``."""
    attached = FlowStore.attached_to(app)
    if attached is store:
        return
    if attached is not None:
        raise ConfigurationError(f"{attached!r} is attached to the app {app.main!r} already")
    setattr(app, APP_ATTRIBUTE, store)
    propagation.install()
    _follow_tasks(store, app)
    _follow_backend(store, app)
    # Before the pool forks: a third of a second for SQLAlchemy, once for a worker and not in each child's first task.
    worker_init.connect(lambda **_: store.preload(), weak=False, dispatch_uid=f"flowstore.preload.{id(store)}")
    uid = f"flowstore.close.{id(store)}"
    for signal in (worker_process_shutdown, worker_shutdown):
        signal.connect(lambda **_: store.close(), weak=False, dispatch_uid=uid)


def _follow_tasks(store: FlowStore, app: Celery) -> None:
    """Wrap the tasks that are registered, those that wait for the app's finalization, and those registered later.

    Later ones are wrapped after they are complete, not when they are bound: Celery puts the retries of
    ``autoretry_for`` around ``run`` last, and they have to be inside.
    """

    def wrap_all(**_: Any) -> None:
        for task in list(app._tasks.values()):
            wrap_run(store, task)

    def then_wrap(register: Any) -> Any:
        @functools.wraps(register)
        def registered(*args: Any, **kwargs: Any) -> Task:
            task = register(*args, **kwargs)
            wrap_run(store, task)
            return task

        return registered

    wrap_all()
    for proxy in app._pending:
        # One that is called before the app is finalized, as in eager mode, is complete by then.
        proxy.__then__(lambda proxy=proxy: wrap_run(store, proxy._get_current_object()))
    app.on_after_finalize.connect(wrap_all, weak=False)
    app._task_from_fun = then_wrap(app._task_from_fun)
    app.register_task = then_wrap(app.register_task)


def _follow_backend(store: FlowStore, app: Celery) -> None:
    """Learn of every task's end through the app's result backend, also if it keeps no results.

    It is the one place that hears of failures in the task's process, of lost workers and hard time limits in their
    parent process, and of revoked tasks; and it hears of them before it sends their errbacks.
    """
    make = app._get_backend

    @functools.wraps(make)
    def made() -> Any:
        return _following(store, make())

    app._get_backend = made
    if app._backend_cache is not None:
        _following(store, app._backend_cache)
    if (local := getattr(app._local, "backend", None)) is not None:
        _following(store, local)


def _following(store: FlowStore, backend: Any) -> Any:
    as_failure, as_revoked = backend.mark_as_failure, backend.mark_as_revoked
    part_return, chord_error = backend.on_chord_part_return, backend.chord_error_from_stack

    @functools.wraps(as_failure)
    def mark_as_failure(
        task_id: str, exc: BaseException, traceback: Any = None, request: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if request is None:
            return as_failure(task_id, exc, traceback, request, *args, **kwargs)
        record_failure(store, request, exc, kwargs.get("state", FAILURE))
        with propagation.reporting(request):
            return as_failure(task_id, exc, traceback, request, *args, **kwargs)

    @functools.wraps(as_revoked)
    def mark_as_revoked(task_id: str, reason: str = "", request: Any = None, *args: Any, **kwargs: Any) -> Any:
        if request is None:
            return as_revoked(task_id, reason, request, *args, **kwargs)
        record_revocation(store, request, reason)
        with propagation.reporting(request):
            return as_revoked(task_id, reason, request, *args, **kwargs)

    @functools.wraps(part_return)
    def on_chord_part_return(request: Any, *args: Any, **kwargs: Any) -> Any:
        with propagation.reporting(request), propagation.completing(getattr(request, "group", None)):
            return part_return(request, *args, **kwargs)

    @functools.wraps(chord_error)
    def chord_error_from_stack(callback: Any, exc: Any = None) -> Any:
        record_body_failure(store, callback, exc)
        return chord_error(callback, exc)

    backend.mark_as_failure, backend.mark_as_revoked = mark_as_failure, mark_as_revoked
    backend.on_chord_part_return, backend.chord_error_from_stack = on_chord_part_return, chord_error_from_stack
    return backend
