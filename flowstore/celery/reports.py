"""Follow what Celery reports to result backends and by signals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from celery.app.task import Context
from celery.canvas import Signature, _chain, _chord, group, maybe_signature
from celery.exceptions import NotRegistered, Retry, TaskRevokedError
from celery.worker import state as worker_state

from flowstore.celery import propagation
from flowstore.celery.context import TaskContext, running
from flowstore.celery.executing import FOLLOWED, execution_of
from flowstore.celery.messages import header_of, task_name_of, text
from flowstore.celery.recording import Ending, keep
from flowstore.celery.requests import context_of, full
from flowstore.celery.writer import hand_over
from flowstore.store.task_run import FAILURE, RETRY, REVOKED

if TYPE_CHECKING:
    from flowstore.celery.attaching import Attachment

_REPORTS: Final = "__flowstore__"
"""Attribute of a backend that holds its ``Reports``."""
_SAID: Final = "_flowstore_said"
"""Attribute of a request whose retry was stored by a worker's main process."""


def follow_backend(backend: Any, attachment: Attachment) -> Any:
    """Follow what Celery reports to a backend; return it. Idempotent."""
    reports = backend.__dict__.get(_REPORTS)
    if reports is None:
        reports = Reports(backend)
        setattr(backend, _REPORTS, reports)
    if attachment not in reports.attachments:
        reports.attachments.append(attachment)
        attachment.backends.add(backend)
    return backend


def unfollow_backend(backend: Any, attachment: Attachment) -> None:
    """Undo ``follow_backend``; later wrappers of others are left in place."""
    reports = backend.__dict__.get(_REPORTS)
    if reports is not None and attachment in reports.attachments:
        reports.attachments.remove(attachment)
        if not reports.attachments:
            reports.undo(backend)
            delattr(backend, _REPORTS)


class Reports:
    """Wrappers of the backend methods to which Celery reports how tasks end.

    They see failures in the task's process, lost workers and hard time limits in its parent process, and revoked tasks,
    even if results are ignored, and they see them before errbacks are sent.
    """

    def __init__(self, backend: Any) -> None:
        self.attachments: list[Attachment] = []
        self._before: dict[str, Any] = {}
        self._put: dict[str, Any] = {}
        for name in (
            "mark_as_done", "mark_as_failure", "mark_as_retry", "mark_as_revoked",
            "on_chord_part_return", "chord_error_from_stack",
        ):  # fmt: skip
            if name in backend.__dict__:
                self._before[name] = backend.__dict__[name]
            self._put[name] = getattr(self, f"_{name}")(getattr(backend, name))
            setattr(backend, name, self._put[name])

    def undo(self, backend: Any) -> None:
        for name, put in self._put.items():
            if backend.__dict__.get(name) is put:
                delattr(backend, name)
                if name in self._before:
                    setattr(backend, name, self._before[name])

    def _mark_as_done(self, original: Any) -> Any:
        @functools.wraps(original)
        def mark_as_done(task_id: Any, result: Any, request: Any = None, *args: Any, **kwargs: Any) -> Any:
            if request is not None and self.attachments:
                execution = execution_of(request)
                if execution is not None:
                    if execution.kept is not result:
                        execution.kept = keep(execution.context, execution.task, result)
                else:
                    self._done_elsewhere(task_id, result, request)
            return original(task_id, result, request, *args, **kwargs)

        return mark_as_done

    def _mark_as_failure(self, original: Any) -> Any:
        @functools.wraps(original)
        def mark_as_failure(
            task_id: Any, exc: Any, traceback: Any = None, request: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            if request is None or not self.attachments:
                return original(task_id, exc, traceback, request, *args, **kwargs)
            state = kwargs.get("state") or (args[2] if len(args) > 2 else FAILURE)
            execution = execution_of(request)
            if execution is not None:
                execution.fail(exc, state)
            else:
                self._failed_elsewhere(task_id, exc, request, state)
            with propagation.reporting(request):
                return original(task_id, exc, traceback, request, *args, **kwargs)

        return mark_as_failure

    def _mark_as_retry(self, original: Any) -> Any:
        @functools.wraps(original)
        def mark_as_retry(
            task_id: Any, exc: Any, traceback: Any = None, request: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            if request is not None and execution_of(request) is None:  # otherwise the signal reports it
                self._retried_elsewhere(task_id, exc, request)
            return original(task_id, exc, traceback, request, *args, **kwargs)

        return mark_as_retry

    def _mark_as_revoked(self, original: Any) -> Any:
        @functools.wraps(original)
        def mark_as_revoked(task_id: Any, reason: str = "", request: Any = None, *args: Any, **kwargs: Any) -> Any:
            # A task revoked by a command before it starts is reported without its request; its worker has the request.
            known = request
            if known is None and (waiting := worker_state.requests.get(task_id)) is not None:
                known = waiting._context
            if known is None or not self.attachments:
                return original(task_id, reason, request, *args, **kwargs)
            self._failed_elsewhere(task_id, TaskRevokedError(reason), known, REVOKED)
            with propagation.reporting(known):
                return original(task_id, reason, request, *args, **kwargs)

        return mark_as_revoked

    def _on_chord_part_return(self, original: Any) -> Any:
        @functools.wraps(original)
        def on_chord_part_return(request: Any, *args: Any, **kwargs: Any) -> Any:
            with propagation.reporting(request), propagation.completing(getattr(request, "group", None)):
                return original(request, *args, **kwargs)

        return on_chord_part_return

    def _chord_error_from_stack(self, original: Any) -> Any:
        @functools.wraps(original)
        def chord_error_from_stack(callback: Any, exc: Any = None) -> Any:
            attachment = self._attachment(getattr(callback, "task", None) or "")
            if attachment is not None:
                body_failed(attachment, callback, exc)
            return original(callback, exc)

        return chord_error_from_stack

    def _done_elsewhere(self, task_id: Any, result: Any, request: Any) -> None:
        context = self._context(task_id, request)
        if context is not None:
            task = self._attachment(context.task_name).app._tasks.get(context.task_name)
            keep(context, task, result)

    def _failed_elsewhere(self, task_id: Any, exc: BaseException, request: Any, state: str) -> None:
        context = self._context(task_id, request)
        if context is not None:
            errbacks = state == FAILURE and (getattr(request, "errbacks", None) or getattr(request, "chord", None))
            _hand_over(Ending(context, exc, state), wait=bool(errbacks))

    def _retried_elsewhere(self, task_id: Any, exc: BaseException, request: Any) -> None:
        context = self._context(task_id, request)
        if context is not None:
            with suppress(AttributeError):
                setattr(request, _SAID, RETRY)
            _hand_over(Ending(context, exc, RETRY, str(context.attempt)))

    def _context(self, task_id: Any, request: Any) -> TaskContext | None:
        """Return the context of a task that isn't executed here, or ``None``."""
        request = full(request)
        name = task_name_of(request)
        # A task that no worker knows has only a name here; ``unknown`` stores it.
        if name is None or getattr(request, "id", None) is None:
            return None
        attachment = self._attachment(name)
        return None if attachment is None else context_of(attachment.store, request, name, task_id)

    def _attachment(self, name: str) -> Any:
        for attachment in self.attachments:
            if name in attachment.app._tasks:
                return attachment
        return self.attachments[0] if self.attachments else None


def _hand_over(ending: Ending, *, wait: bool = False) -> None:
    hand_over(ending.write, str(ending), wait=wait)


def retried(sender: Any = None, request: Any = None, reason: Any = None, **_: Any) -> None:
    """Store the error of a retried attempt; for the signal ``task_retry``."""
    execution = execution_of(request)
    if execution is not None:
        exc = reason.exc if isinstance(reason, Retry) else None
        execution.retry(reason if exc is None else exc)


def not_begun(sender: Any = None, task_id: Any = None, kwargs: Any = None, request: Any = None, **more: Any) -> None:
    """Store the error of an invalid message; for ``task_internal_error``.

    Only for keyword arguments that are not a mapping: all other internal errors are reported to the backend.
    """
    following = getattr(sender, FOLLOWED, None)
    attachment = following.attachment() if following is not None else None
    exc = more.get("exception")
    if attachment is None or exc is None or hasattr(kwargs, "items"):
        return
    context = context_of(attachment.store, Context(request or {}), sender.name, task_id, outer=running())
    _hand_over(Ending(context, exc, FAILURE))


def unknown(find: Callable[[Any], Attachment | None], sender: Any, message: Any, name: str, id: Any) -> None:
    """Store that the worker doesn't know a task; for ``task_unknown``."""
    attachment = find(sender.app)
    if attachment is None:
        return
    headers = message.headers or {}
    if "id" not in headers:  # a message of Celery's first protocol
        payload = message.payload
        headers = {**payload, "group": payload.get("taskset"), "headers": headers}
    request = Context(headers, hostname=sender.hostname)
    context = context_of(attachment.store, request, name, id)
    _hand_over(Ending(context, NotRegistered(name), FAILURE))


def body_failed(attachment: Attachment, callback: Any, exc: BaseException | None) -> None:
    """Store the error of a chord body whose header has failed.

    The body won't run.
    """
    sender = propagation.sending_task()
    if sender is None or exc is None:
        return
    flow = propagation.flow_of(sender[1], sender[0], header_of(sender[1]))
    joins = propagation.joined_group()
    for name, task_id in _results_of(callback, getattr(callback, "id", None)):
        context = TaskContext(attachment.store, flow.flow_name, flow.run_id, name, text(task_id), 1, None, joins=joins)
        _hand_over(Ending(context, exc, FAILURE), wait=True)


def _results_of(signature: Any, task_id: Any) -> list[tuple[str, Any]]:
    """Return names and ids of the tasks with the result of a signature."""
    signature = maybe_signature(signature)
    if isinstance(signature, group):
        return [found for part in signature.tasks for found in _results_of(part, part.id)]
    if isinstance(signature, _chord):
        return _results_of(signature.body, task_id)
    if isinstance(signature, _chain):
        return _results_of(signature.tasks[-1], task_id)
    if isinstance(signature, Signature) and signature.task and task_id:
        return [(signature.task, task_id)]
    return []
