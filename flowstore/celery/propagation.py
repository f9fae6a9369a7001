"""Send flow name and run id with every message.

Celery copies custom headers neither to the tasks that a task sends nor to chord bodies. So a handler of
``before_task_publish`` adds one header to each message: that of the flow being started here, or else of the task
running here, or else of the task whose end this process is reporting.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from celery._state import get_current_worker_task
from celery.signals import before_task_publish

from flowstore.celery.messages import HEADER, Header, header_of, hidden_arguments, task_name_of, text

_UID: Final = "flowstore.propagation"
_UNLOCK: Final = "celery.chord_unlock"  # with most backends this task waits for the header, then sends the body


class FlowOf(NamedTuple):
    """Flow name and run id."""

    flow_name: str
    run_id: str


starting: ContextVar[FlowOf | None] = ContextVar("flowstore_starting", default=None)
_sent: ContextVar[list[str] | None] = ContextVar("flowstore_sent", default=None)
_reporting: ContextVar[Any] = ContextVar("flowstore_reporting", default=None)
_completing: ContextVar[str | None] = ContextVar("flowstore_completing", default=None)
_received: WeakValueDictionary[Any, Any] = WeakValueDictionary()


def install() -> None:
    """Add the header to every message of this process. Idempotent."""
    before_task_publish.connect(_put_header, weak=False, dispatch_uid=_UID)


def uninstall() -> None:
    """Undo ``install``."""
    before_task_publish.disconnect(_put_header, dispatch_uid=_UID)


def remember(request: Any = None, **_: Any) -> None:
    """Remember a request while it is alive; for ``task_received``."""
    _received[request.id] = request


@contextmanager
def sending(flow_name: str, run_id: str) -> Iterator[list[str]]:
    """Send messages as the start of a run; yields the list of ids sent."""
    sent: list[str] = []
    tokens = starting.set(FlowOf(flow_name, run_id)), _sent.set(sent)
    try:
        yield sent
    finally:
        starting.reset(tokens[0])
        _sent.reset(tokens[1])


@contextmanager
def reporting(request: Any) -> Iterator[None]:
    """Send messages as part of a request's flow, if no task is running here.

    That is so in a worker's main process. Celery invents requests for the tasks that would have followed in a chain;
    these have no header, so the outer request counts.
    """
    outer = _reporting.get()
    token = _reporting.set(request if outer is None or header_of(request) else outer)
    try:
        yield
    finally:
        _reporting.reset(token)


@contextmanager
def completing(group_id: str | None) -> Iterator[None]:
    """Send messages as the body of the chord with this header group."""
    token = _completing.set(group_id)
    try:
        yield
    finally:
        _completing.reset(token)


def flow_of(request: Any, task_name: str, header: Header) -> FlowOf:
    """Return the flow run of a task request.

    A task that was sent outside of a flow is a flow named after the task. Its run id is its group id, so that a chord's
    body finds the header's tasks, or else its root id.
    """
    run_id = header.get("run")
    for name in () if run_id else ("group", "root_id", "id"):
        run_id = run_id or text(getattr(request, name, None))
    return FlowOf(header.get("flow") or text(task_name), run_id or "")


def sending_task() -> tuple[str, Any] | None:
    """Return name and request of the task that sends from here, or ``None``.

    That is the running task, or the one whose end is being reported.
    """
    task = get_current_worker_task()
    if task is not None:
        return task.name, task.request
    request = _reporting.get()
    return None if request is None else (task_name_of(request) or "", request)


def joined_group() -> str | None:
    """Return the id of a chord's header while its body is sent, or ``None``."""
    group_id = _completing.get()
    if group_id is not None:
        return group_id
    sender = sending_task()
    if sender is not None and sender[0] == _UNLOCK and sender[1].args:
        return str(sender[1].args[0])
    return None


def _put_header(headers: dict[str, Any] | None = None, body: Any = None, **_: Any) -> None:
    if headers is None:
        return
    # In Celery's first protocol the id is in the body, and the headers are empty.
    task_id = headers.get("id") or (body.get("id") if isinstance(body, Mapping) else None)
    flow = starting.get()
    # A message that is sent again already has the header.
    known = headers.get(HEADER) if headers.get("retries") else None
    header: dict[str, Any] = {**(known if isinstance(known, Mapping) else {}), "sent": time.time()}
    sender = sending_task() or _lost(headers)
    joined = joined_group()
    if flow is not None:
        header |= {"flow": flow.flow_name, "run": flow.run_id}
        if (sent := _sent.get()) is not None:
            sent.append(str(task_id))
    elif sender is not None:
        task_name, request = sender
        header |= _inherited(task_name, request, joined)
        again = task_id == getattr(request, "id", None)
        if again or (joined is None and _replaces(headers, request)):
            # A retry or a replacement has the same parents.
            header |= {name: value for name, value in header_of(request).items() if name in ("parent", "joins")}
            if again and (hidden := hidden_arguments(request)) is not None:
                header["hidden"] = hidden
        elif joined is not None:
            header["joins"] = joined
        else:
            header["parent"] = [text(task_name), text(getattr(request, "id", None))]
    headers[HEADER] = header


def _replaces(headers: Mapping[str, Any], request: Any) -> bool:
    """Return whether ``Task.replace``, which counts, sends a message."""
    return (headers.get("replaced_task_nesting") or 0) > (getattr(request, "replaced_task_nesting", None) or 0)


def _lost(headers: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return name and request of a task whose process was lost.

    The main process sends it again.
    """
    request = _received.get(headers.get("id")) if headers.get("retries") else None
    return None if request is None else (request.task.name, request._context)


def _inherited(task_name: str, request: Any, joined: str | None) -> dict[str, Any]:
    known = header_of(request)
    if "flow" in known:
        return {"flow": known["flow"], "run": known.get("run") or joined or flow_of(request, task_name, known).run_id}
    if joined is not None:
        # Outside of a flow, a chord's body is a flow named after itself, in the run of the header's tasks.
        return {"run": known.get("run") or joined}
    flow = flow_of(request, task_name, known)
    return {"flow": flow.flow_name, "run": flow.run_id}
