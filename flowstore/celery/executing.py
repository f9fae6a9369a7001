"""Follow executions in this process, and store what tasks return."""

from __future__ import annotations

import functools
import logging
import sys
import time
import types
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

from celery import current_app
from celery.app import trace
from celery.app.task import Task
from celery.exceptions import Ignore, Reject, Retry

from flowstore.celery.context import TaskContext, enter, leave, running
from flowstore.celery.recording import Ending, keep
from flowstore.celery.requests import context_of
from flowstore.store.task_run import FAILURE, RETRY

if TYPE_CHECKING:
    from flowstore.celery.attaching import Attachment

FOLLOWED: Final = "__flowstore__"
"""Attribute of a task that holds its ``Following``."""

log = logging.getLogger(__name__)

_NOTHING: Final = object()


class Execution:
    """One execution of a task by a worker, or an eager one.

    Attributes:
        context: what ``current()`` returns during the execution.
        kept: the result that has been stored.
        reported: whether its failure or retry has been stored.
    """

    __slots__ = ("before", "context", "inside", "kept", "outer", "reported", "request", "task")

    def __init__(self, task: Task, request: Any, context: TaskContext, outer: Execution | None) -> None:
        self.task = task
        self.request = request
        self.context = context
        self.outer = outer
        self.before: Token[TaskContext | None] = enter(context)
        self.inside = False
        self.kept: object = _NOTHING
        self.reported = False

    def fail(self, exc: BaseException, state: str = FAILURE) -> None:
        """Store the error that ended the task. Never raises."""
        self.reported = True
        Ending(self.context, exc, state).write()

    def retry(self, exc: BaseException) -> None:
        """Store the error of an attempt that is retried. Never raises."""
        if not self.reported:
            self.reported = True
            Ending(self.context, exc, RETRY, str(self.context.attempt)).write()


class Following:
    """What a followed task was before, and the attachments that follow it."""

    def __init__(self, task: Task) -> None:
        self.attachments: list[Attachment] = []
        self.task_class = type(task)
        self.has_run = "run" in task.__dict__
        self.run = task.run
        self.wrapper: Any = None

    def attachment(self) -> Attachment | None:
        """Return the attachment of the executing app.

        A task may be in several apps.
        """
        if len(self.attachments) > 1:
            app = current_app._get_current_object()
            for one in self.attachments:
                if one.app is app:
                    return one
        return self.attachments[-1] if self.attachments else None


_executing: ContextVar[Execution | None] = ContextVar("flowstore_executing", default=None)


def executing() -> Execution | None:
    """Return the innermost execution in this thread, or ``None``."""
    return _executing.get()


def execution_of(request: Any) -> Execution | None:
    """Return this thread's execution of a request, or ``None``."""
    execution = _executing.get()
    return execution if execution is not None and execution.request is request else None


def begin(task: Any = None, **_: Any) -> None:
    """Begin an execution; for the signal ``task_prerun``."""
    following = getattr(task, FOLLOWED, None)
    if following is None:
        return
    request = task.request
    attachment = following.attachment()
    if attachment is None or request.called_directly:
        return
    context = context_of(attachment.store, request, task.name, started_at=time.time(), outer=running())
    _executing.set(Execution(task, request, context, _executing.get()))
    try:
        attachment.follow_backend(task.backend)
    except Exception:  # Celery reports that the backend can't be made
        log.debug("can't get the result backend of %s", task.name, exc_info=True)


def end(task: Any = None, state: Any = None, **_: Any) -> None:
    """End an execution; for the signal ``task_postrun``."""
    execution = _executing.get()
    if execution is None or execution.task is not task or execution.request is not task.request:
        return
    try:
        # An eager call that raises its error reports it neither to its backend nor by a signal.
        if state is None and execution.request.is_eager and not execution.reported:
            _end_with(execution, sys.exc_info()[1])
    finally:
        _executing.set(execution.outer)
        with suppress(ValueError):  # it began in another context, which is out of reach
            leave(execution.before)


def _end_with(execution: Execution, exc: BaseException | None) -> None:
    if isinstance(exc, Retry):
        execution.retry(exc)
    elif isinstance(exc, Exception) and not isinstance(exc, Ignore | Reject):
        execution.fail(exc)


def follow(task: Task, attachment: Attachment) -> None:
    """Make a task store its result before the worker sees it. Idempotent.

    Direct calls (``task()``, ``task.run()``) store nothing, nor do calls inside of an execution of the same task.
    """
    following = task.__dict__.get(FOLLOWED)
    if following is not None and (attachment in following.attachments):
        return
    if following is None:
        following = Following(task)
        _wrap(task, following)
        setattr(task, FOLLOWED, following)
        _trace_anew(task, attachment)
    following.attachments.append(attachment)


def unfollow(task: Task, attachment: Attachment) -> None:
    """Undo ``follow``; later wrappers of others are left in place."""
    following = task.__dict__.get(FOLLOWED)
    if following is None or attachment not in following.attachments:
        return
    following.attachments.remove(attachment)
    if following.attachments:
        return
    if type(task) is following.wrapper:
        task.__class__ = following.task_class
    elif task.run is following.wrapper:
        if following.has_run:
            task.run = following.run
        else:
            del task.run
    delattr(task, FOLLOWED)
    _trace_anew(task, attachment)


def _trace_anew(task: Task, attachment: Attachment) -> None:
    """Rebuild the tracer of a task, for a worker that is already running."""
    if task.__trace__ is not None:
        # A child of the prefork pool never builds it itself.
        app, hostname = attachment.app, trace._localized[2] if len(trace._localized) == 3 else None
        task.__trace__ = trace.build_tracer(task.name, task, app.loader, hostname, app=app)


def _wrap(task: Task, following: Following) -> None:
    """Wrap what Celery calls: the class's own ``__call__``, or else ``run``."""
    if not trace.task_has_custom(task, "__call__"):
        following.wrapper = task.run = _kept(task, task.run)
        return
    kind = type(task)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    names["__call__"] = _kept(task, kind.__call__)
    following.wrapper = task.__class__ = types.new_class(
        kind.__name__, (kind,), exec_body=lambda space: space.update(names)
    )


def _kept(task: Task, call: Any) -> Any:
    @functools.wraps(call)
    def run(*args: Any, **kwargs: Any) -> Any:
        execution = _executing.get()
        if execution is None or execution.inside or execution.task is not task:
            return call(*args, **kwargs)
        execution.inside = True
        try:
            result = call(*args, **kwargs)
        finally:
            execution.inside = False
        if execution.kept is not result:
            execution.kept = keep(execution.context, task, result)
        return result

    return run
