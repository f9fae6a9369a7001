"""Store how tasks end: results before Celery sees them, errors before errbacks are sent."""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from celery.app.task import Task
from celery.canvas import group
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError

from flowstore.celery.header import Header, header_of
from flowstore.celery.propagation import flow_of, joined_group, sending_task, starting
from flowstore.context import TaskContext, enter, leave, running
from flowstore.errors import ResultSchemaError
from flowstore.failure import summary
from flowstore.flow import FAILURE, RETRY, REVOKED, SUCCESS
from flowstore.interrupts import is_interrupt
from flowstore.record import Key
from flowstore.routing import Route
from flowstore.store import FlowStore

log = logging.getLogger(__name__)

_EVENTS: Final = {
    SUCCESS: "task-succeeded",
    FAILURE: "task-failed",
    RETRY: "task-retried",
    REVOKED: "task-revoked",
}
_NOTED: Final = ("attempt", "worker", "started_at", "finished_at", "error")
_CONTEXT: Final = "_flowstore_context"
_MARK: Final = "__flowstore__"


def wrap_run(store: FlowStore, task: Task) -> None:
    """Let a task's ``run`` store what it returns. Repeating it changes nothing.

    ``run`` is what every kind of task comes down to, and the last thing called before Celery sends the successor. A
    call that no worker made (``task()``, ``task.run()``) stores nothing.
    """
    original = task.run
    if getattr(original, _MARK, False):
        return

    @functools.wraps(original)
    def run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        outer = running()
        if request.called_directly or (outer is not None and outer.request is request):
            return original(*args, **kwargs)
        context = _context(store, task.name, request, time.time(), outer)
        setattr(request, _CONTEXT, context)
        before = enter(context)
        try:
            try:
                result = original(*args, **kwargs)
            except (Ignore, Reject):
                raise
            except Retry as exc:
                _record_attempt(context, exc)
                raise
            except Exception as exc:
                # An eager call that propagates its error never reaches the backend.
                if request.is_eager:
                    record_failure(store, request, exc)
                raise
            _record_result(context, result)
        finally:
            leave(before)
        return result

    setattr(run, _MARK, True)
    task.run = run
    task.__trace__ = None  # a worker that is running already has to build it anew


def record_failure(store: FlowStore, request: Any, exc: BaseException, state: str = FAILURE) -> None:
    """Store the error that ended a task. Never raises: the task's own error is what has to be reported."""
    context: TaskContext | None = getattr(request, _CONTEXT, None)
    if context is None:
        name = getattr(request, "task", None)
        if not name:
            return
        context = _context(store, name, request, None, None)
    # Celery hands on a stand-in for an exception that can't be pickled; the original is the one being handled.
    handled = sys.exc_info()[1]
    if handled is not None and handled is not exc and type(exc).__name__ == "UnpickleableExceptionWrapper":
        exc = handled
    _record_error(context, exc, state, "")


def record_revocation(store: FlowStore, request: Any, reason: str) -> None:
    """Store that a task was revoked. Never raises."""
    record_failure(store, request, TaskRevokedError(reason), REVOKED)


def record_body_failure(store: FlowStore, callback: Any, exc: BaseException | None) -> None:
    """Store the error of a chord's body that will never run, because a task of the header failed. Never raises."""
    if isinstance(callback, group):
        for part in callback.tasks:
            record_body_failure(store, part, exc)
        return
    sender, name, task_id = sending_task(), getattr(callback, "task", None), getattr(callback, "id", None)
    if sender is None or exc is None or not name or not task_id:
        return
    flow = flow_of(sender[1], sender[0], header_of(sender[1]))
    context = TaskContext(store, flow.flow_name, flow.run_id, name, task_id, 1, None, joins=joined_group())
    _record_error(context, exc, FAILURE, "")


def _context(
    store: FlowStore, name: str, request: Any, started_at: float | None, outer: TaskContext | None
) -> TaskContext:
    header = header_of(request)
    flow_name, run_id = _flow(request, name, header, outer)
    parent = header.get("parent")
    return TaskContext(
        store=store,
        flow_name=flow_name,
        run_id=run_id,
        task_name=name,
        task_id=request.id or "",
        attempt=(request.retries or 0) + 1,
        started_at=started_at,
        parent=(parent[0], parent[1]) if parent else None,
        joins=header.get("joins"),
        published_at=header.get("sent"),
        request=request,
    )


def _flow(request: Any, name: str, header: Header, outer: TaskContext | None) -> tuple[str, str]:
    if request.is_eager and "flow" not in header:
        # Eager calls send no message that could carry the header.
        if (flow := starting.get()) is not None:
            return flow
        if outer is not None:
            return outer.flow_name, outer.run_id
    return flow_of(request, name, header)


def _record_result(context: TaskContext, result: object) -> None:
    """Store a result.

    Raises:
        FlowstoreError: the result is not stored, and the storage's policy is not merely to log that.
    """
    route = context.store.route(context.flow_name, context.task_name)
    if route is None or route.readonly:
        return
    facts = _facts(context, SUCCESS)
    try:
        context.store.operations.store_result(route, _key(context, route), result, facts)
    except ResultSchemaError:
        raise
    except Exception as exc:
        if route.storage.on_store_error != "log" or is_interrupt(exc):
            raise
        log.exception("the result of %s is lost: storage %r could not store it", context.key, route.storage.name)
    _note(context, route, facts)


def _record_attempt(context: TaskContext, retry: Retry) -> None:
    _record_error(context, retry.exc or retry, RETRY, str(context.attempt))


def _record_error(context: TaskContext, exc: BaseException, state: str, name: str) -> None:
    try:
        route = context.store.route(context.flow_name, context.task_name)
        if route is None or route.readonly:
            return
        facts = _facts(context, state)
        facts["error"] = summary(exc)
        request = context.request
        if request is not None:
            facts["node_args"] = {"args": request.args, "kwargs": request.kwargs}
        stored = False
        try:
            context.store.operations.store_error(route, _key(context, route), exc, facts, name)
            stored = True
        finally:
            # What could not be stored after all that time is not waited for once more.
            _note(context, route, facts, retry=stored)
    except Exception:
        log.exception("the error of %s is not stored", context.key)


def _note(context: TaskContext, route: Route, facts: Mapping[str, Any], retry: bool = True) -> None:
    """Note down in the history how a task ended, where the configuration asks for it. Never raises."""
    state, history = facts["state"], context.store.flow_history
    if not history.wants(context.flow_name, state != SUCCESS):
        return
    data = {name: facts[name] for name in _NOTED if name in facts}
    try:
        history.record(_EVENTS[state], _key(context, route), context.run_id, data, retry=retry)
    except Exception:
        log.exception("that %s ended with %s is missing in the history", context.key, state)


def _key(context: TaskContext, route: Route) -> Key:
    return Key(context.flow_name, route.task_name, context.task_id)


def _facts(context: TaskContext, state: str) -> dict[str, Any]:
    request = context.request
    facts: dict[str, Any] = {
        "state": state,
        "run_id": context.run_id,
        "attempt": context.attempt,
        "started_at": context.started_at,
        "finished_at": time.time(),
        "joins": context.joins,
        "published_at": context.published_at,
    }
    stored_name: Callable[[str], str] = context.store.stored_name
    if stored_name(context.task_name) != context.task_name:
        facts["celery_task"] = context.task_name
    if context.parent is not None:
        facts["parents"] = [[stored_name(context.parent[0]), context.parent[1]]]
    if request is not None:
        facts |= {
            "worker": request.hostname,
            "root_id": request.root_id,
            "parent_id": request.parent_id,
            "group_id": request.group,
            "group_index": request.group_index,
        }
        if request.chord:
            with suppress(AttributeError, KeyError, TypeError):
                facts["chord_id"] = request.chord["options"]["task_id"]
    return {name: value for name, value in facts.items() if value is not None}
