"""Flow name and run id travel with every message.

Celery copies no custom header to the tasks that a task sends, nor to chord bodies. So a handler of
``before_task_publish`` puts one header on each message: from the flow that is being started here, or else from the task
that is running here, or else from the task whose end this process is reporting.
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
_UNLOCK: Final = "celery.chord_unlock"  # by which most result backends wait for a chord's header, then send its body


class FlowOf(NamedTuple):
    """The flow run that something belongs to."""

    flow_name: str
    run_id: str


starting: ContextVar[FlowOf | None] = ContextVar("flowstore_starting", default=None)
_sent: ContextVar[list[str] | None] = ContextVar("flowstore_sent", default=None)
_reporting: ContextVar[Any] = ContextVar("flowstore_reporting", default=None)
_completing: ContextVar[str | None] = ContextVar("flowstore_completing", default=None)
_received: WeakValueDictionary[Any, Any] = WeakValueDictionary()


def install() -> None:
    """Put the header on every message that this process sends. Repeating it changes nothing."""
    before_task_publish.connect(_put_header, weak=False, dispatch_uid=_UID)


def uninstall() -> None:
    """Leave messages as they are."""
    before_task_publish.disconnect(_put_header, dispatch_uid=_UID)


def remember(request: Any = None, **_: Any) -> None:
    """Know a request that a worker has received as long as the worker does; for the signal ``task_received``."""
    _received[request.id] = request


@contextmanager
def sending(flow_name: str, run_id: str) -> Iterator[list[str]]:
    """Let what is sent inside be the begin of that run; gives a list to which the ids of what was sent are added."""
    sent: list[str] = []
    tokens = starting.set(FlowOf(flow_name, run_id)), _sent.set(sent)
    try:
        yield sent
    finally:
        starting.reset(tokens[0])
        _sent.reset(tokens[1])


@contextmanager
def reporting(request: Any) -> Iterator[None]:
    """Let what is sent inside belong to that request's flow, where no task is running: in a worker's parent process.

    Celery makes requests up for the tasks that would have followed in a chain; such a one says nothing of its flow.
    """
    outer = _reporting.get()
    token = _reporting.set(request if outer is None or header_of(request) else outer)
    try:
        yield
    finally:
        _reporting.reset(token)


@contextmanager
def completing(group_id: str | None) -> Iterator[None]:
    """Let what is sent inside be the body of the chord whose header is that group."""
    token = _completing.set(group_id)
    try:
        yield
    finally:
        _completing.reset(token)


def flow_of(request: Any, task_name: str, header: Header) -> FlowOf:
    """Return the flow run of a task request.

    A task that was sent outside of a flow is a flow of its own, named after itself; its run is its group, so that a
    chord's body finds the header's tasks, or else its root.
    """
    run_id = header.get("run")
    for name in ("group", "root_id", "id"):
        run_id = run_id or text(getattr(request, name, None))
    return FlowOf(header.get("flow") or text(task_name), run_id or "")


def sending_task() -> tuple[str, Any] | None:
    """Return name and request of the task that is running here, or whose end is being reported, or ``None``."""
    task = get_current_worker_task()
    if task is not None:
        return task.name, task.request
    request = _reporting.get()
    return None if request is None else (task_name_of(request) or "", request)


def joined_group() -> str | None:
    """Return the id of the chord header that is complete, where its body is being sent."""
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
    # What a task is sent again with has the header of its message.
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
            # A retry, or a task that takes this one's place: its parents are this one's.
            header |= {name: value for name, value in header_of(request).items() if name in ("parent", "joins")}
            if again and (hidden := hidden_arguments(request)) is not None:
                header["hidden"] = hidden
        elif joined is not None:
            header["joins"] = joined
        else:
            header["parent"] = [text(task_name), text(getattr(request, "id", None))]
    headers[HEADER] = header


def _replaces(headers: Mapping[str, Any], request: Any) -> bool:
    """Tell whether a message is sent by ``Task.replace``, which counts how often that has been done."""
    return (headers.get("replaced_task_nesting") or 0) > (getattr(request, "replaced_task_nesting", None) or 0)


def _lost(headers: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return name and request of a task that a worker's main process sends again, because its process was lost."""
    request = _received.get(headers.get("id")) if headers.get("retries") else None
    return None if request is None else (request.task.name, request._context)


def _inherited(task_name: str, request: Any, joined: str | None) -> dict[str, Any]:
    known = header_of(request)
    if "flow" in known:
        return {"flow": known["flow"], "run": known.get("run") or joined or flow_of(request, task_name, known).run_id}
    if joined is not None:
        # A chord that was sent outside of a flow: its body is a flow of its own, in the run of the header's tasks.
        return {"run": known.get("run") or joined}
    flow = flow_of(request, task_name, known)
    return {"flow": flow.flow_name, "run": flow.run_id}
