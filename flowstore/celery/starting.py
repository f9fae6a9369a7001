"""Start a canvas as a flow and record the run."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.result import GroupResult

from flowstore.celery import propagation
from flowstore.celery.canvas import part_of, prepared
from flowstore.celery.context import running
from flowstore.errors import ConfigurationError, NotSentError
from flowstore.interrupts import is_interrupt
from flowstore.store import FlowStore
from flowstore.store.flow_run import FlowRun
from flowstore.store.plan import Plan, members_of

log = logging.getLogger(__name__)


def start(store: FlowStore, app: Celery | None, flow_name: str, canvas: Any, options: Mapping[str, Any]) -> FlowRun:
    """Start a signature as a flow. See ``FlowStore.start``."""
    if app is None:
        raise ConfigurationError("no Celery app is attached: call FlowStore.attach(app) first")
    given = dict(options)
    signature = prepared(canvas, app, given)
    part = part_of(signature, store._router.stored_name)
    if part is None:
        raise ValueError(f"flow {flow_name!r} was not started: its canvas is an empty chain, which gives no result")
    plan = Plan.of(part)
    starter = running()
    run_id = str(uuid.uuid4())
    run = store._begin_run(flow_name, run_id, None if starter is None else starter.run_id, plan)
    with propagation.sending(flow_name, run_id) as sent:
        try:
            result = signature.apply_async(**given)
        except BaseException:
            if not sent:
                _forget(store, run)
            raise
    eager = app.conf.task_always_eager
    if not sent and not eager and plan.members:
        _forget(store, run)
        raise NotSentError(_nothing_sent(flow_name, part, result))
    _correct(store, run, plan, result)
    return run


def _forget(store: FlowStore, run: FlowRun) -> None:
    """Delete a run of which nothing was sent.

    A failure is only logged, because the caller raises why nothing was sent.
    """
    try:
        store._forget_run(run)
    except Exception as exc:
        if is_interrupt(exc):
            raise
        log.exception("can't delete the record of %r, of which nothing was sent", run)


def _nothing_sent(flow_name: str, part: Any, result: Any) -> str:
    names = ", ".join(sorted({repr(member.name) for member in members_of(part)}))
    answer = getattr(result, "id", None)
    return f"flow {flow_name!r} was not started: apply_async of {names} sent no message" + (
        "" if answer is None else f", but returned the result of another task, {answer!r}"
    )


def _correct(store: FlowStore, run: FlowRun, plan: Plan, result: Any) -> None:
    """Update the plan if Celery returned other ids.

    A task's ``apply_async`` may choose them.
    """
    names = {task_id: name for name, task_id in plan.finals()}
    spare = next(iter(names.values()), "")
    answer = _answer(result, names, spare)
    if answer is None or answer == plan.result:
        return
    finals = Plan(answer, ()).finals()
    corrected = Plan(answer, tuple(dict.fromkeys((*plan.members, *(task_id for _, task_id in finals)))))
    try:
        store._replace_plan(run, corrected)
    except Exception as exc:
        if is_interrupt(exc):
            raise
        # The tasks run all the same; only waiting for the result ends with a timeout.
        log.exception("can't correct the task ids in the record of %r", run)


def _answer(result: Any, names: Mapping[str, str], spare: str) -> Any:
    """Return a Celery result in the form of ``Plan.result``."""
    if isinstance(result, GroupResult):
        return {"group": [_answer(one, names, spare) for one in result.results]}
    task_id = getattr(result, "id", None)
    return None if task_id is None else [names.get(str(task_id), spare), str(task_id)]
