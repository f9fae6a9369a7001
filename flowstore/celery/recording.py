"""Store results before Celery sees them, errors before errbacks."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NoReturn

from celery.app.task import Task

from flowstore.celery.context import TaskContext
from flowstore.celery.messages import arguments_of, text
from flowstore.errors import (
    ConflictError,
    FlowstoreError,
    NotFoundError,
    ResultSchemaError,
    SerializationError,
    UnsupportedError,
)
from flowstore.interrupts import is_interrupt
from flowstore.record import RESULT, RUN, Key
from flowstore.store.patience import limited
from flowstore.store.routing import Route
from flowstore.store.task_run import FAILURE, RETRY, REVOKED, SUCCESS
from flowstore.texts import summarize

log = logging.getLogger(__name__)

_EVENTS: Final = {
    SUCCESS: "task-succeeded",
    FAILURE: "task-failed",
    RETRY: "task-retried",
    REVOKED: "task-revoked",
}
_NOTED: Final = ("attempt", "worker", "started_at", "finished_at", "error")
_HEADERS: Final = {
    "hostname": "worker",
    "group_index": "group_index",
    "root_id": "root_id",
    "parent_id": "parent_id",
    "group": "group_id",
}
"""The headers in which attributes of a request are stored."""
_KEPT: Final = "_flowstore_kept"
"""Attribute of a request whose result may have been stored: when the execution started."""
_STAND_IN: Final = "UnpickleableExceptionWrapper"


def keep(context: TaskContext, task: Task, result: object) -> object:
    """Store what a task returned, and return it.

    If the value can't be serialized and the task ignores its result (``ignore_result``), that is logged and ``None`` is
    stored, as in Celery.

    Raises:
        FlowstoreError: the result is not stored, unless the storage's policy is only to log that.
    """
    route = context.store._router.find_route(context.flow_name, context.task_name)
    if route is None or route.readonly:
        return result
    facts = _facts(context, SUCCESS, route)
    with suppress(AttributeError):  # the request takes no attributes
        setattr(context.request, _KEPT, context.started_at)
    store = context.store._outcomes.store_result
    try:
        key = Key(context.flow_name, route.task_name, context.task_id)
        try:
            store(route, key, result, facts)
        except SerializationError as exc:
            if not _is_ignored(task, context.request):
                raise
            _warn_once(context.task_name, str(exc))
            store(replace(route, output_schema=None), key, None, {**facts, "omitted": type(result).__qualname__})
    except ResultSchemaError:
        raise
    except Exception as exc:
        if is_interrupt(exc):
            raise
        if route.storage.on_store_error != "log":
            _refuse(context, exc)
        log.error("can't store the result of %s in %r, it is lost: %s", label(context), route.storage.name, exc)
        log.debug("the result of %s is lost", label(context), exc_info=exc)
    _note(context, route, facts)
    return result


class Ending:
    """The failed end of an execution, to be stored now or later."""

    def __init__(self, context: TaskContext, exc: BaseException, state: str, name: str = "") -> None:
        """Collect the facts.

        Args:
            name: ``""`` for the error that ended the task, or the number of the attempt that is retried.
        """
        self._context = context
        self._exc = _original(exc)
        self._state = state
        self._name = name
        self._finished_at = time.time()
        self._kept_at: float | None = getattr(context.request, _KEPT, None)

    def __str__(self) -> str:
        return f"the error of {label(self._context)}"

    def write(self) -> None:
        """Store the error. Never raises: Celery reports the task's error."""
        try:
            self._write()
        except Exception as exc:
            if is_interrupt(exc):
                self._write_at_once()
            else:
                self._log(exc)

    def _write_at_once(self) -> None:
        """Store the error, once, after an interrupt; the task has ended."""
        try:
            with limited(0.0):
                self._write()
        except Exception as exc:
            self._log(exc)

    def _log(self, exc: Exception) -> None:
        # A FlowstoreError has been logged already; it can't be stored for the same reason.
        level = logging.WARNING if isinstance(self._exc, FlowstoreError) else logging.ERROR
        log.log(level, "can't store the error of %s: %s: %s", label(self._context), type(exc).__name__, exc)
        log.debug("can't store the error of %s", label(self._context), exc_info=exc)

    def _write(self) -> None:
        context, exc = self._context, self._exc
        route = context.store._router.find_route(context.flow_name, context.task_name)
        if route is None or route.readonly:
            if self._state == RETRY or (route := _route_of_run(context)) is None:
                return
            arguments = None
        else:
            arguments = arguments_of(context.request) if context.request is not None else None
        facts = _facts(context, self._state, route, self._finished_at)
        facts["error"] = summarize(exc)
        if arguments is not None:
            facts["node_args"] = arguments
        key = _key(context, route)
        stored = False
        try:
            # If the result could not be stored, the time for retries is used up.
            retry = self._kept_at is None or not isinstance(exc, FlowstoreError)
            context.store._outcomes.store_error(route, key, exc, facts, self._name, retry)
            stored = True
        finally:
            # No retries if the error could not be stored either.
            _note(context, route, facts, retry=stored)
        if self._kept_at is not None and self._state == FAILURE:
            _take_back(context, route, key, self._kept_at)


def label(context: TaskContext) -> str:
    """Return the names of a task for a log line. Never raises."""
    return f"{context.flow_name!a} / {context.task_name!a} / {context.task_id!a}"


def _is_ignored(task: Task, request: Any) -> bool:
    """Return whether the result is ignored, by the message or by the task."""
    ignored = getattr(request, "__dict__", {}).get("ignore_result")  # not the default of the request's class
    return bool(getattr(task, "ignore_result", False) if ignored is None else ignored)


@lru_cache(256)
def _warn_once(task_name: str, reason: str) -> None:
    log.warning("stored None for task %s: it ignores its result, which can't be serialized: %s", task_name, reason)


def _refuse(context: TaskContext, exc: Exception) -> NoReturn:
    """Raise an error for Celery to report.

    Errors of flowstore get no traceback through drivers and retries.
    """
    log.error("can't store the result of %s: %s: %s", label(context), type(exc).__name__, exc)
    log.debug("can't store the result of %s", label(context), exc_info=exc)
    if isinstance(exc, FlowstoreError):
        for one in _chain(exc):
            one.__traceback__ = None
    raise exc


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def _original(exc: BaseException) -> BaseException:
    """Return the exception behind Celery's stand-in for an unpicklable one.

    Returns the stand-in if the exception is not available.
    """
    if type(exc).__name__ != _STAND_IN:
        return exc
    for handled in (sys.exc_info()[1], exc):
        for one in _chain(handled):
            if type(one).__name__ == getattr(exc, "exc_cls_name", None):
                return one
    return exc


def _route_of_run(context: TaskContext) -> Route | None:
    """Return where to store the end of a task that has no storage.

    That is the storage of the run's record. Returns ``None`` for a task outside of a flow: nothing is stored of it.
    """
    entry = context.store._router.find_flow_storage(context.flow_name)
    if entry is None:
        return None
    try:
        key = Key(context.flow_name, "", context.run_id)
        context.store._operations.read(entry, lambda records: records.get(key, RUN, payload=False))
    except (NotFoundError, UnsupportedError):
        return None
    return Route(entry, context.store._router.stored_name(context.task_name), expires_in=None)


def _take_back(context: TaskContext, route: Route, key: Key, started_at: float) -> None:
    """Delete the result of an execution that failed later.

    It failed because its successor could not be sent.
    """
    operations = context.store._operations
    mine = {"attempt": context.attempt, "started_at": started_at, "run_id": context.run_id}
    try:
        head = operations.read(route.storage, lambda records: records.get(key, RESULT, payload=False))
        if all(head.headers.get(name) == value for name, value in mine.items()):
            operations.write(route.storage, lambda records: records.delete(key, RESULT, if_revision=head.revision))
            context.store._outcomes.caches.drop(route.storage.name, head.ref)
    except (NotFoundError, ConflictError, UnsupportedError):
        return  # already deleted or replaced, or the adapter keeps no records
    except Exception as exc:
        if is_interrupt(exc):
            raise
        log.error("can't delete the result of %s, which has failed: %s", label(context), exc)


def _note(context: TaskContext, route: Route, facts: Mapping[str, Any], retry: bool = True) -> None:
    """Add the end of a task to the history, if configured. Never raises."""
    state, store = facts["state"], context.store
    try:
        if not store._router.keeps_history(context.flow_name, state != SUCCESS):
            return
        data = {name: facts[name] for name in _NOTED if name in facts}
        store._append_history(_EVENTS[state], _key(context, route), context.run_id, data, retry=retry)
    except Exception as exc:
        if is_interrupt(exc):
            raise
        log.error("can't write the history entry of %s (%s): %s", label(context), state, exc)
        log.debug("can't write the history entry of %s", label(context), exc_info=exc)


def _key(context: TaskContext, route: Route) -> Key:
    return Key(context.flow_name, route.task_name, context.task_id)


def _facts(context: TaskContext, state: str, route: Route, finished_at: float | None = None) -> dict[str, Any]:
    """Return the known headers of a record about an execution."""
    facts: dict[str, Any] = {
        "state": state,
        "run_id": context.run_id,
        "attempt": context.attempt,
        "finished_at": time.time() if finished_at is None else finished_at,
    }
    if context.started_at is not None:
        facts["started_at"] = context.started_at
    if context.joins is not None:
        facts["joins"] = context.joins
    if context.published_at is not None:
        facts["published_at"] = context.published_at
    if route.task_name != context.task_name:
        facts["celery_task"] = context.task_name
    if context.parent is not None:
        facts["parents"] = [[context.store._router.stored_name(context.parent[0]), context.parent[1]]]
    request = context.request
    if request is not None:
        for name in ("hostname", "group_index"):
            if (value := getattr(request, name, None)) is not None:
                facts[_HEADERS[name]] = value
        for name in ("root_id", "parent_id", "group"):
            if (value := getattr(request, name, None)) is not None:
                facts[_HEADERS[name]] = text(value)
        if getattr(request, "chord", None):
            with suppress(AttributeError, KeyError, TypeError):
                facts["chord_id"] = text(request.chord["options"]["task_id"])
    return facts
