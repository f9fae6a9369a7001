"""A run as it was planned: the tasks of its canvas in their places, those that have not run among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from flowstore.cli.shape import Bundle, Step, shape_of

if TYPE_CHECKING:
    from flowstore.store.flow import TaskRun
    from flowstore.store.plan import Part, Plan

NEVER_RAN: Final = "never ran"
"""The state of a task that follows one that failed: it won't be executed."""

NOT_FINISHED: Final = "not finished"
"""The state of a task that waits or runs, or whose message is lost: nothing is stored of it yet."""


def with_missing(flow_name: str, tasks: Sequence[TaskRun], plan: Plan) -> list[TaskRun]:
    """Return what ran, and after it the tasks of the canvas of which nothing is stored."""
    from flowstore.record import Key
    from flowstore.store.flow import TaskRun
    from flowstore.store.plan import members_of

    if plan.canvas is None:
        return list(tasks)
    ran = {task.id: task for task in tasks}
    parents = plan.parents()
    lost: dict[str, bool] = {}  # whether a task, or one that it follows, has failed
    missing: dict[str, TaskRun] = {}
    for member in members_of(plan.canvas):
        before = parents.get(member.id, ())
        follows_failure = any(lost.get(one.id, False) for one in before)
        task = ran.get(member.id)
        if task is not None:
            lost[member.id] = task.state in ("FAILURE", "REVOKED")
            continue
        lost[member.id] = follows_failure
        keys = tuple(Key(flow_name, one.name, one.id) for one in before)
        state = NEVER_RAN if follows_failure else NOT_FINISHED
        missing[member.id] = TaskRun(Key(flow_name, member.name, member.id), state, 1, "", 0, parents=keys)
    return [*tasks, *missing.values()]


def shape_of_plan(tasks: Sequence[TaskRun], canvas: Part) -> list[Step]:
    """Lay out the tasks of a run as its canvas says; what they sent besides is below those that sent it.

    Args:
        tasks: what ``with_missing`` returned.
    """
    by_id = {task.id: task for task in tasks}
    steps: dict[str, Step] = {}
    sequence = _sequence((canvas,), by_id, steps)
    others = [task for task in tasks if task.id not in steps]
    if not others:
        return sequence
    rest = shape_of(others)
    bundles = [*rest[0].bundles, *([Bundle(None, [rest[1:]])] if rest[1:] else [])]
    for bundle in bundles:
        for branch in bundle.branches:
            above = steps.get(_parent_of(branch), sequence[0])
            above.bundles.append(Bundle(bundle.group_id, [branch], bundle.joined_by))
    return sequence


def _parent_of(branch: Sequence[Step]) -> str:
    first = branch[0].task
    return "" if first is None or not first.parents else first.parents[-1].task_id


def _sequence(parts: Iterable[Part], by_id: Mapping[str, TaskRun], steps: dict[str, Step]) -> list[Step]:
    """Return the steps of parts that follow each other, after a step without a task."""
    from flowstore.store.plan import Chain, Chord, Group, Member

    found = [Step(None)]
    pending = list(parts)[::-1]
    while pending:
        part = pending.pop()
        if isinstance(part, Member):
            found.append(Step(by_id[part.id]))
            steps[part.id] = found[-1]
        elif isinstance(part, Chain):
            pending += part.parts[::-1]
        else:
            members = part.parts if isinstance(part, Group) else part.header
            branches = [_branch(one, by_id, steps) for one in members]
            joined_by = _first_name(part.body) if isinstance(part, Chord) else None
            found[-1].bundles.append(Bundle("", branches, joined_by))
            if isinstance(part, Chord):
                pending.append(part.body)
    return found


def _branch(part: Part, by_id: Mapping[str, TaskRun], steps: dict[str, Step]) -> list[Step]:
    sequence = _sequence((part,), by_id, steps)
    return sequence if sequence[0].bundles else sequence[1:]


def _first_name(part: Part) -> str | None:
    """Return the name of the task that joins a header, if that is one."""
    from flowstore.store.plan import Chain, Group, Member

    while not isinstance(part, Member):
        if isinstance(part, Group):
            return None
        part = part.parts[0] if isinstance(part, Chain) else Group(part.header)
    return part.name
