"""Attach a FlowStore to a Celery app: its tasks, backends and signals."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Final

from celery import Celery
from celery.app.task import Task
from celery.signals import (
    task_internal_error,
    task_postrun,
    task_prerun,
    task_received,
    task_retry,
    task_unknown,
    worker_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)

from flowstore.celery import executing, propagation, reports, writer
from flowstore.errors import ConfigurationError
from flowstore.store import APP_ATTRIBUTE, FlowStore

_ATTACHMENT: Final = "__flowstore__"
"""Attribute of an app that holds its ``Attachment``."""

_RECEIVED: Final = "flowstore.task_received"

_attachments: weakref.WeakSet[Attachment] = weakref.WeakSet()


def attach(store: FlowStore, app: Celery) -> None:
    """Store the outcomes of all tasks of an app. See ``FlowStore.attach``."""
    attached = FlowStore.attached_to(app)
    if attached is store:
        return
    if attached is not None:
        raise ConfigurationError(f"app {app.main!r} already has a FlowStore attached, {attached!r}: detach it first")
    setattr(app, APP_ATTRIBUTE, store)
    attachment = Attachment(store, app)
    setattr(app, _ATTACHMENT, attachment)
    _attachments.add(attachment)
    propagation.install()
    _listen()
    attachment.begin()


def detach(app: Celery) -> None:
    """Undo ``attach``. See ``FlowStore.detach``."""
    attachment = app.__dict__.pop(_ATTACHMENT, None)
    if attachment is None:
        return
    delattr(app, APP_ATTRIBUTE)
    _attachments.discard(attachment)
    attachment.end()
    if not _attachments:
        propagation.uninstall()
        _listen(False)


class Attachment:
    """The connection of one FlowStore with one app, held by the app."""

    def __init__(self, store: FlowStore, app: Celery) -> None:
        self.store = store
        self.app = app
        self.backends: weakref.WeakSet[Any] = weakref.WeakSet()
        self._put: dict[str, Any] = {}
        self._active = True

    def begin(self) -> None:
        """Follow the tasks of the app: registered, pending and later ones."""
        app = self.app
        self.follow_all()
        for proxy in app._pending:
            # A task that is called before the app is finalized, as in eager mode, is complete by then.
            proxy.__then__(lambda proxy=proxy: self.follow(proxy._get_current_object()))
        app.on_after_finalize.connect(self.follow_all)
        # Wrapped when tasks are complete, not when they are bound: Celery wraps ``run`` with the retries of
        # ``autoretry_for`` last, and these have to be inside.
        self._wrap(app, "_task_from_fun", self.follow)
        self._wrap(app, "register_task", self.follow)
        self._wrap(app._tasks, "register", lambda _: self.follow_all())
        self._follow_backends()

    def end(self) -> None:
        """Stop following; restore the app, its tasks and backends."""
        self._active = False
        self.app.on_after_finalize.disconnect(self.follow_all)
        for owner in (self.app, self.app._tasks):
            for name in ("_task_from_fun", "register_task", "register", "_get_backend"):
                if owner.__dict__.get(name) is not None and owner.__dict__[name] is self._put.get(name):
                    delattr(owner, name)
        for task in list(self.app._tasks.values()):
            executing.unfollow(task, self)
        for backend in list(self.backends):
            reports.unfollow_backend(backend, self)

    def follow_all(self, **_: Any) -> None:
        """Follow all registered tasks."""
        for task in list(self.app._tasks.values()):
            self.follow(task)

    def follow(self, task: Task) -> None:
        """Follow a task and its backend."""
        if self._active:
            executing.follow(task, self)
            self.follow_backend(task._backend)  # set if the task has a separate backend

    def follow_backend(self, backend: Any) -> None:
        """Follow what Celery reports to a result backend. Idempotent."""
        if backend is not None:
            reports.follow_backend(backend, self)

    def _follow_backends(self) -> None:
        """Follow the app's backend.

        The backends of other threads are followed when a task begins there.
        """
        app = self.app
        self._wrap(app, "_get_backend", self.follow_backend)
        self.follow_backend(app._backend_cache)
        self.follow_backend(getattr(app._local, "backend", None))

    def _wrap(self, owner: Any, name: str, then: Any) -> None:
        """Wrap a method; call ``then`` with what it returns."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            returned = original(*args, **kwargs)
            if self._active:
                then(returned)
            return returned

        self._put[name] = wrapper
        setattr(owner, name, wrapper)


def _attachment_of(app: Any) -> Attachment | None:
    attachment = getattr(app, "__dict__", {}).get(_ATTACHMENT)
    return attachment if isinstance(attachment, Attachment) else None


def _worker_init(**_: Any) -> None:
    writer.become_main_process()
    for attachment in list(_attachments):
        attachment.follow_all()
        # Before the pool forks: importing SQLAlchemy takes a third of a second, once instead of in each child.
        attachment.store._preload()
    if any(getattr(task, "retry_on_worker_lost", None) for one in _attachments for task in one.app._tasks.values()):
        task_received.connect(propagation.remember, weak=False, dispatch_uid=_RECEIVED)


def _worker_ready(**_: Any) -> None:
    writer.become_main_process()


def _worker_shutdown(**_: Any) -> None:
    writer.end_main_process()
    for attachment in list(_attachments):
        attachment.store.close()


def _task_unknown(sender: Any = None, message: Any = None, name: Any = None, id: Any = None, **_: Any) -> None:
    reports.unknown(_attachment_of, sender, message, name, id)


def _listen(on: bool = True) -> None:
    """Connect or disconnect Celery's signals, once for all apps."""
    for signal, receiver in (
        (task_prerun, executing.begin),
        (task_postrun, executing.end),
        (task_retry, reports.retried),
        (task_unknown, _task_unknown),
        (task_internal_error, reports.not_begun),
        (worker_init, _worker_init),
        (worker_ready, _worker_ready),
        (worker_process_shutdown, _worker_shutdown),
        (worker_shutdown, _worker_shutdown),
    ):
        uid = f"flowstore.{signal.name}"
        if on:
            signal.connect(receiver, weak=False, dispatch_uid=uid)
        else:
            signal.disconnect(receiver, dispatch_uid=uid)
    if not on:
        task_received.disconnect(propagation.remember, dispatch_uid=_RECEIVED)
