"""The shape of a flow run: which task follows which, as far as the stored facts tell.

Tasks are laid out in sequences. What follows a task alone, as in a chain, is the next step of its sequence;
what follows it side by side is a branch below it; and a chord's body is the next step after the task that the header
came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowstore.record import Key
    from flowstore.store.flow import TaskRun

_DEEPEST = 50  # branches inside of branches, from which on all is laid out as one sequence


@dataclass(slots=True)
class Step:
    """A task, and the bundles of branches below it. The outermost step has no task."""

    task: TaskRun | None
    bundles: list[Bundle] = field(default_factory=list)


@dataclass(slots=True)
class Bundle:
    """Branches that belong together: those of one group, or those of none."""

    group_id: str | None
    branches: list[list[Step]]
    joined_by: str | None = None


def shape_of(tasks: Iterable[TaskRun]) -> list[Step]:
    """Lay out the tasks of a run; returns the sequence of a step without a task, and what follows it."""
    layout = _Layout(list(tasks))
    sequence = layout.sequence(None, 0)
    sequence[0].bundles += [Bundle(None, [rest]) for rest in layout.rest()]
    return sequence


def tasks_in(sequence: Iterable[Step]) -> list[TaskRun]:
    """Return all tasks of a sequence, its branches included."""
    found: list[TaskRun] = []
    pending = [iter(sequence)]
    while pending:
        for step in pending[-1]:
            if step.task is not None:
                found.append(step.task)
            pending += [iter(branch) for bundle in reversed(step.bundles) for branch in reversed(bundle.branches)]
            break
        else:
            pending.pop()
    return found


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
        """Return the task that another one is laid out under or after."""
        pending = [task]
        while pending:
            one = pending[-1]
            parents = [key for key in one.parents if key in self._tasks and key != one.key]
            unknown = [self._tasks[key] for key in parents if key not in self._above]
            self._above.setdefault(one.key, None)  # what the data claims may go round in circles
            if unknown:
                pending += unknown
                continue
            pending.pop()
            self._above[one.key] = self._common(parents) if len(one.parents) > 1 else next(iter(parents), None)
        return self._above[task.key]

    def _common(self, parents: list[Key]) -> Key | None:
        """Return the nearest task that all these came from."""
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
        """Yield the tasks that nothing leads to, because what the data claims goes round in circles."""
        for key in self._tasks:
            if key not in self._placed:
                yield self.sequence(key, 0)

    def sequence(self, first: Key | None, depth: int) -> list[Step]:
        """Return the steps that begin with a task, or with the run itself."""
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
