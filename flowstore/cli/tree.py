"""``flowstore tree``: print the tasks of a run as a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from flowstore.cli import output, reading, text
from flowstore.cli.layout import (
    NEVER_RAN,
    NOT_FINISHED,
    Bundle,
    Step,
    layout_of,
    planned_layout,
    tasks_in,
    with_missing,
)
from flowstore.cli.root import source
from flowstore.cli.status import end_with_failures

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from flowstore.store.flow_run import FlowRun
    from flowstore.store.plan import Plan
    from flowstore.store.task_run import TaskRun

_MANY: Final = 100  # tasks of a run; in larger runs groups are abbreviated
_FEW: Final = 5  # branches shown of an abbreviated group; of failed ones four times as many
_ORDER: Final = ("FAILURE", "REVOKED", "RETRY")


@click.command()
@click.argument("run")
@click.option("--all", "complete", is_flag=True, help="Show every task of large groups.")
@output.output_option
def tree(run: str, complete: bool, form: str) -> None:
    """Show the tasks of a run as a tree.

    RUN is a run id; it may be abbreviated. Each task is shown with its state, duration, size and error. "→" marks a
    task that followed the one above it on the same level. If the flow was started with FlowStore.start, tasks that have
    not run are shown too.
    """
    store = source().open()
    flow_run = reading.find_run(store, run)
    tasks, plan, failures = reading.read_run(store, flow_run)
    rows = [reading.task_row(task) for task in tasks]
    missing = [] if plan is None else with_missing(flow_run.flow_name, tasks, plan)[len(tasks) :]
    if form == "json":
        output.print_json(
            {
                "flow": flow_run.flow_name,
                "run": flow_run.id,
                "parent_run": flow_run.parent_run_id,
                "started_at": text.moment(flow_run.started_at),
                "tasks": rows,
                "missing": [{"flow": t.key.flow_name, "task": t.name, "id": t.id, "state": t.state} for t in missing],
            }
        )
    elif form == "table":
        print_tree(flow_run, [*tasks, *missing], complete=complete, plan=plan)
    else:
        output.print_rows(form, (), rows, lambda row: [row["flow"], row["task"], row["id"]])
    end_with_failures(failures, len(reading.storages_in_use(store)))


def print_tree(run: FlowRun, tasks: Sequence[TaskRun], *, complete: bool, plan: Plan | None = None) -> None:
    """Print a run as a tree.

    Unless ``complete``, groups of large runs are abbreviated, failures first.
    """
    from rich.text import Text
    from rich.tree import Tree

    head = Text.assemble((text.printable(run.flow_name), "bold"), f"  run {text.printable(run.id)}")
    if run.started_at is not None:
        head.append(f"  started {text.local_time(text.moment(run.started_at))}")
    head.append("\n")
    head.append_text(_counts(tasks))
    last = max((task.finished_at for task in tasks if task.finished_at), default=None)
    if last is not None and run.started_at is not None:
        head.append(f" in {text.duration_text(max(0.0, last - run.started_at))}")
    root = Tree(head, guide_style="dim")
    canvas = None if plan is None else plan.canvas
    layout = layout_of(tasks) if canvas is None else planned_layout(tasks, canvas)
    _Drawing(complete or len(tasks) <= _MANY).add(root, layout)
    output.console().print(root, soft_wrap=False)


class _Drawing:
    def __init__(self, complete: bool) -> None:
        self._complete = complete

    def add(self, node: Tree, sequence: Sequence[Step]) -> None:
        """Draw a sequence below a node."""
        follows = False
        for step in sequence:
            below = node
            if step.task is not None:
                below = node.add(_label(step.task, follows))
                follows = True
            for bundle in step.bundles:
                self._add_bundle(below, bundle)
                follows |= step.task is None

    def _add_bundle(self, node: Tree, bundle: Bundle) -> None:
        from rich.text import Text

        if bundle.group_id is not None and len(bundle.branches) > 1:
            label = Text(f"group of {len(bundle.branches)}", style="italic")
            if bundle.joined_by is not None:
                label.append(f", joined by {text.printable(bundle.joined_by)}")
            label.append(": ")
            label.append_text(_counts([task for branch in bundle.branches for task in tasks_in(branch)]))
            node = node.add(label)
        branches = sorted(bundle.branches, key=_rank)
        shown = branches
        if not self._complete and len(branches) > _FEW:
            bad = [branch for branch in branches if _rank(branch) < len(_ORDER)]
            shown = bad[: 4 * _FEW] + branches[len(bad) : len(bad) + _FEW]
        for branch in shown:
            self.add(node, branch)
        if len(shown) < len(branches):
            hidden = [branch for branch in branches if not any(branch is one for one in shown)]
            tasks = [task for branch in hidden for task in tasks_in(branch)]
            node.add(Text.assemble(f"… {len(hidden)} more: ", _counts(tasks), "  (show them with tree --all)"))


def _rank(branch: Sequence[Step]) -> int:
    states = {task.state for task in tasks_in(branch)}
    return next((rank for rank, state in enumerate(_ORDER) if state in states), len(_ORDER))


def _counts(tasks: Sequence[TaskRun]) -> Text:
    from rich.text import Text

    counted = Counter(task.state for task in tasks)
    parts = [
        Text(f"{count} {text.printable(state)}", style=output.state_style(state))
        for state, count in counted.most_common()
    ]
    return Text(", ").join(parts) if parts else Text("no task has finished yet")


def _label(task: TaskRun, follows: bool) -> Text:
    from rich.text import Text

    label = Text(overflow="ellipsis", no_wrap=True)
    if follows:
        label.append("→ ")
    label.append(text.printable(task.name), "bold")
    style = "dim" if task.state in (NEVER_RAN, NOT_FINISHED) else output.state_style(task.state)
    label.append(f"  {text.printable(task.state)}", style)
    if task.attempt > 1:
        label.append(f"  attempt {task.attempt}", "yellow")
    if task.started_at is not None and task.finished_at is not None:
        label.append(f"  {text.duration_text(max(0.0, task.finished_at - task.started_at))}")
    if task.state == "SUCCESS":
        label.append(f"  {text.size_text(task.size)}")
    label.append(f"  {text.printable(task.id)}", "dim")
    if task.error is not None:
        label.append(f"\n{text.one_line(task.error)}", "red")
    return label
