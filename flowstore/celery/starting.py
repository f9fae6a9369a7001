"""Start a canvas as a flow."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery
from celery.canvas import Signature, _chain, _chord, group
from celery.result import GroupResult, ResultBase

from flowstore.celery import propagation
from flowstore.current import running
from flowstore.errors import ConfigurationError
from flowstore.flow import FlowRun, Plan
from flowstore.store import FlowStore


def start(store: FlowStore, app: Celery | None, flow_name: str, canvas: Any, options: Mapping[str, Any]) -> FlowRun:
    """Start a signature as a flow. See ``FlowStore.start``."""
    if app is None:
        raise ConfigurationError("no Celery app is attached: call FlowStore.attach(app) first")
    signature = canvas if isinstance(canvas, Signature) else canvas.s()
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
    store.flow_runs.note_plan(run, Plan(_final(store, signature, result), tuple(dict.fromkeys(_ids(result)))))
    return run


def _final(store: FlowStore, signature: Any, result: Any) -> Any:
    """Pair the tasks that a canvas ends with, known by the signature, with their ids, known by the result."""
    if isinstance(result, GroupResult):
        parts = list(_last(signature).tasks)
        return {"group": [_final(store, part, one) for part, one in zip(parts, result.results, strict=True)]}
    return [store.stored_name(_last(signature).task), result.id]


def _last(signature: Any) -> Any:
    while True:
        if isinstance(signature, _chain):
            signature = signature.tasks[-1]
        elif isinstance(signature, _chord):
            signature = signature.body
        elif isinstance(signature, group) and len(signature.tasks) == 1:
            # Celery runs a group of one in a chain as that task alone.
            return signature
        else:
            return signature


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
