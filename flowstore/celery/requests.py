"""What is known of a task by its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.app.task import Context

from flowstore.celery.context import TaskContext
from flowstore.celery.messages import header_of, text
from flowstore.celery.propagation import FlowOf, flow_of, starting
from flowstore.store import FlowStore


def context_of(
    store: FlowStore,
    request: Any,
    name: str,
    task_id: object = None,
    *,
    started_at: float | None = None,
    outer: TaskContext | None = None,
) -> TaskContext:
    """Return what is known of a task by its request, which may be any object with some of a request's attributes.

    Args:
        name: the task's name.
        task_id: its id; without it, the request's.
        outer: the task in which it is executed, for eager calls, which send no message that could carry a header.
    """
    header = header_of(request)
    flow_name, run_id = _flow(request, name, header, outer, task_id)
    parent = header.get("parent")
    retries = getattr(request, "retries", None)
    return TaskContext(
        store=store,
        flow_name=flow_name,
        run_id=run_id,
        task_name=text(name),
        task_id=text(getattr(request, "id", None) if task_id is None else task_id),
        attempt=(retries if isinstance(retries, int) else 0) + 1,
        started_at=started_at,
        parent=(parent[0], parent[1]) if parent else None,
        joins=header.get("joins"),
        published_at=header.get("sent"),
        request=request,
    )


def _flow(request: Any, name: str, header: Any, outer: TaskContext | None, task_id: object) -> FlowOf:
    if "flow" not in header and getattr(request, "is_eager", False):
        if (flow := starting.get()) is not None:
            return flow
        if outer is not None:
            return FlowOf(outer.flow_name, outer.run_id)
    found = flow_of(request, name, header)
    return found if found.run_id else FlowOf(found.flow_name, text(task_id))


def full(request: Any) -> Any:
    """Return a request with all that its message said, for one that is cut down, as those of a batch are."""
    known = getattr(request, "request_dict", None)
    return Context(known) if isinstance(known, Mapping) else request
