"""Build the context of a task from its request."""

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
    """Return the context of a task.

    Args:
        request: any object with some attributes of a task request.
        name: the task's name.
        task_id: the task's id; default: the request's.
        outer: the task that makes an eager call, which sends no message with a header.
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
    flow = flow_of(request, name, header)
    return flow if flow.run_id else FlowOf(flow.flow_name, text(task_id))


def full(request: Any) -> Any:
    """Return the complete request for a reduced one, as of a batch."""
    complete = getattr(request, "request_dict", None)
    return Context(complete) if isinstance(complete, Mapping) else request
