"""The layout of a run as a tree: which task follows which.

Tasks are laid out in sequences. A task that alone follows another, as in a chain, is the next step of its sequence.
Tasks that follow it side by side are branches below it. A chord's body is the next step after the task that started the
header. Where the canvas is known, the layout follows it, and tasks that have not run are in their places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flowstore.record import Key
    from flowstore.store.plan import Part, Plan
    from flowstore.store.task_run import TaskRun

NEVER_RAN: Final = "never ran"
"""State of a task that won't be executed, because a task that it follows has failed."""

NOT_FINISHED: Final = "not finished"
"""State of a task without a record: it waits, runs, or its message is lost."""

_DEEPEST: Final = 50
"""Levels of branches; deeper ones are laid out as one sequence."""


@dataclass(slots=True)
class Step:
    """A task and the branches below it; the first step has no task."""

    task: TaskRun | None
    bundles: list[Bundle] = field(default_factory=list)


@dataclass(slots=True)
class Bundle:
    """The branches of one group, or all that belong to no group."""

    group_id: str | None
    branches: list[list[Step]]
    joined_by: str | None = None


def layout_of(tasks: Iterable[TaskRun]) -> list[Step]:
    """Lay out the tasks of a run by the parents in their records.

    Returns the sequence that begins with a step without a task.
    """
    layout = _Layout(list(tasks))
    sequence = layout.sequence(None, 0)
    sequence[0].bundles += [Bundle(None, [rest]) for rest in layout.rest()]
    return sequence


def tasks_in(sequence: Iterable[Step]) -> list[TaskRun]:
    """Return all tasks of a sequence and its branches."""
    tasks: list[TaskRun] = []
    pending = [iter(sequence)]
    while pending:
        for step in pending[-1]:
            if step.task is not None:
                tasks.append(step.task)
            pending += [iter(branch) for bundle in reversed(step.bundles) for branch in reversed(bundle.branches)]
            break
        else:
            pending.pop()
    return tasks


def with_missing(flow_name: str, tasks: Sequence[TaskRun], plan: Plan) -> list[TaskRun]:
    """Return the tasks of a run, then the planned tasks without a record."""
    from flowstore.record import Key
    from flowstore.store.plan import members_of
    from flowstore.store.task_run import TaskRun

    if plan.canvas is None:
        return list(tasks)
    ran = {task.id: task for task in tasks}
    parents = plan.parents()
    failed: dict[str, bool] = {}  # whether the task, or one that it follows, has failed
    missing: dict[str, TaskRun] = {}
    for member in members_of(plan.canvas):
        before = parents.get(member.id, ())
        follows_failure = any(failed.get(one.id, False) for one in before)
        task = ran.get(member.id)
        if task is not None:
            failed[member.id] = task.state in ("FAILURE", "REVOKED")
            continue
        failed[member.id] = follows_failure
        keys = tuple(Key(flow_name, one.name, one.id) for one in before)
        state = NEVER_RAN if follows_failure else NOT_FINISHED
        missing[member.id] = TaskRun(Key(flow_name, member.name, member.id), state, 1, "", 0, parents=keys)
    return [*tasks, *missing.values()]


def planned_layout(tasks: Sequence[TaskRun], canvas: Part) -> list[Step]:
    """Lay out the tasks of a run by its canvas.

    Other tasks are below those that sent them.

    Args:
        tasks: as ``with_missing`` returns them.
    """
    by_id = {task.id: task for task in tasks}
    steps: dict[str, Step] = {}
    sequence = _sequence((canvas,), by_id, steps)
    others = [task for task in tasks if task.id not in steps]
    if not others:
        return sequence
    rest = layout_of(others)
    bundles = [*rest[0].bundles, *([Bundle(None, [rest[1:]])] if rest[1:] else [])]
    for bundle in bundles:
        for branch in bundle.branches:
            above = steps.get(_parent_of(branch), sequence[0])
            above.bundles.append(Bundle(bundle.group_id, [branch], bundle.joined_by))
    return sequence


class _Layout:
    def __init__(self, tasks: list[TaskRun]) -> None:
        self._tasks = {task.key: task for task in tasks}
        self._above: dict[Key, Key | None] = {}
        self._branches: dict[Key | None, list[TaskRun]] = {}
        self._bodies: dict[Key | None, list[TaskRun]] = {}
        self._placed: set[Key] = set()
        for task in tasks:
            joins = "joins" in task.headers or len(task.parents) > 1
            above = self._place(task)
            (self._bodies if joins else self._branches).setdefault(above, []).append(task)

    def _place(self, task: TaskRun) -> Key | None:
        """Return the task under or after which a task is laid out."""
        pending = [task]
        while pending:
            one = pending[-1]
            parents = [key for key in one.parents if key in self._tasks and key != one.key]
            unknown = [self._tasks[key] for key in parents if key not in self._above]
            self._above.setdefault(one.key, None)  # records may claim a cycle
            if unknown:
                pending += unknown
                continue
            pending.pop()
            self._above[one.key] = self._common(parents) if len(one.parents) > 1 else next(iter(parents), None)
        return self._above[task.key]

    def _common(self, parents: list[Key]) -> Key | None:
        """Return the nearest common ancestor of these tasks, or ``None``."""
        common: dict[Key, None] | None = None
        for parent in parents:
            line: dict[Key, None] = {}
            above = self._above[parent]
            while above is not None and above not in line:
                if common is not None and above in common:
                    break
                line[above] = None
                above = self._above.get(above)
            if common is None:
                common = line
            elif above is None or above not in common:
                return None
            else:
                common = dict.fromkeys(list(common)[list(common).index(above) :])
        return next(iter(common or ()), None)

    def rest(self) -> Iterator[list[Step]]:
        """Yield sequences of the tasks that can't be reached.

        Their records claim a cycle.
        """
        for key in self._tasks:
            if key not in self._placed:
                yield self.sequence(key, 0)

    def sequence(self, first: Key | None, depth: int) -> list[Step]:
        """Return the sequence that begins with a task, or with the run itself."""
        steps: list[Step] = []
        following: list[Key | None] = [first]
        while following:
            key = following.pop(0)
            if key is not None:
                if key in self._placed:
                    continue
                self._placed.add(key)
            step = Step(None if key is None else self._tasks[key])
            steps.append(step)
            branches = [task for task in self._branches.get(key, ()) if task.key not in self._placed]
            bodies = self._bodies.get(key, [])
            if depth > _DEEPEST or (len(branches) == 1 and not bodies):
                following[:0] = [task.key for task in (*branches, *bodies)]
            else:
                step.bundles = self._bundles(branches, bodies, depth + 1)
                following[:0] = [body.key for body in bodies]
        return steps

    def _bundles(self, tasks: list[TaskRun], bodies: list[TaskRun], depth: int) -> list[Bundle]:
        bundles: dict[str | None, Bundle] = {}
        for task in tasks:
            branch = self.sequence(task.key, depth)
            ids = (step.task.group_id for step in reversed(branch) if step.task is not None)
            group_id = next((found for found in ids if found is not None), None)
            bundles.setdefault(group_id, Bundle(group_id, [])).branches.append(branch)
        for body in bodies:
            bundle = bundles.get(body.headers.get("joins"))
            if bundle is not None:
                bundle.joined_by = body.name
        return list(bundles.values())


def _parent_of(branch: Sequence[Step]) -> str:
    first = branch[0].task
    return "" if first is None or not first.parents else first.parents[-1].task_id


def _sequence(parts: Iterable[Part], by_id: Mapping[str, TaskRun], steps: dict[str, Step]) -> list[Step]:
    """Return the sequence of parts that follow each other.

    It begins with a step without a task.
    """
    from flowstore.store.plan import Chain, Chord, Group, Member

    sequence = [Step(None)]
    pending = list(parts)[::-1]
    while pending:
        part = pending.pop()
        if isinstance(part, Member):
            sequence.append(Step(by_id[part.id]))
            steps[part.id] = sequence[-1]
        elif isinstance(part, Chain):
            pending += part.parts[::-1]
        else:
            members = part.parts if isinstance(part, Group) else part.header
            branches = [_branch(one, by_id, steps) for one in members]
            joined_by = _first_name(part.body) if isinstance(part, Chord) else None
            sequence[-1].bundles.append(Bundle("", branches, joined_by))
            if isinstance(part, Chord):
                pending.append(part.body)
    return sequence


def _branch(part: Part, by_id: Mapping[str, TaskRun], steps: dict[str, Step]) -> list[Step]:
    sequence = _sequence((part,), by_id, steps)
    return sequence if sequence[0].bundles else sequence[1:]


def _first_name(part: Part) -> str | None:
    """Return the name of a chord body's first task; ``None`` for a group."""
    from flowstore.store.plan import Chain, Group, Member

    while not isinstance(part, Member):
        if isinstance(part, Group):
            return None
        part = part.parts[0] if isinstance(part, Chain) else Group(part.header)
    return part.name
