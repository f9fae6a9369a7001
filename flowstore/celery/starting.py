"""Start a canvas as a flow."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from celery.canvas import Signature, _chain, _chord, chunks, group
from celery.result import GroupResult, ResultBase

from flowstore.celery import propagation
from flowstore.context import running
from flowstore.errors import ConfigurationError
from flowstore.flow import FlowRun, Plan
from flowstore.store import FlowStore


def start(store: FlowStore, app: Celery | None, flow_name: str, canvas: Any, options: Mapping[str, Any]) -> FlowRun:
    """Start a signature as a flow. See ``FlowStore.start``."""
    if app is None:
        raise ConfigurationError("no Celery app is attached: call FlowStore.attach(app) first")
    # Celery writes task ids into a chain that it sends: the caller's own can be started again.
    signature = canvas.clone() if isinstance(canvas, Signature) else canvas.s()
    starter = running()
    run_id = str(uuid.uuid4())
    run = store.flow_runs.begin(flow_name, run_id, None if starter is None else starter.run_id)
    token = propagation.starting.set(propagation.FlowOf(flow_name, run_id))
    try:
        result = signature.apply_async(**options)
    except BaseException:
        store.flow_runs.forget(run)
        raise
    finally:
        propagation.starting.reset(token)
    names = (store.stored_name(name) for name in _last_names(signature))
    store.flow_runs.note_plan(run, Plan(_result(names, result), tuple(dict.fromkeys(_ids(result)))))
    return run


def _result(names: Iterator[str], result: Any) -> Any:
    """Pair the names of the tasks that a canvas ends with, known by its signature, with their ids, known by its result.

    Their nesting is the result's: Celery unrolls nested groups.
    """
    if isinstance(result, GroupResult):
        return {"group": [_result(names, one) for one in result.results]}
    return [next(names), result.id]


def _last_names(signature: Any) -> Iterator[str]:
    if isinstance(signature, chunks):
        signature = signature.group()
    if isinstance(signature, _chain):
        yield from _last_names(signature.tasks[-1])
    elif isinstance(signature, _chord):
        yield from _last_names(signature.body)
    elif isinstance(signature, group):
        for task in signature.tasks:
            yield from _last_names(task)
    else:
        yield signature.task


def _ids(result: ResultBase | None) -> Iterator[str]:
    """Iterate over the ids of all tasks of a canvas."""
    pending = [result]
    while pending:
        one = pending.pop()
        if one is None:
            continue
        pending.append(one.parent)
        if isinstance(one, GroupResult):
            pending.extend(one.results)
        else:
            yield one.id
