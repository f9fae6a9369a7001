"""Shared by commands that move records: selection, progress, problems."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from flowstore.cli import output, text
from flowstore.cli.status import partly_failed, say

if TYPE_CHECKING:
    from flowstore.copying import CopyResult, Problem
    from flowstore.record import Query

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SHOWN: Final = 20  # problems that are printed one by one


def selection_options(command: _Command) -> _Command:
    """Add the options that select records."""
    for option in (
        click.option("--run", "run_id", metavar="RUN", help="Only records of this run."),
        click.option("--task", metavar="NAME", help="Only records of this task."),
        click.option("--flow", metavar="NAME", help="Only records of this flow."),
        click.option(
            "--kind", "kinds", metavar="KIND", multiple=True, help="Only records of this kind: result, error, …"
        ),
    ):
        command = option(command)
    return command


def selection(kinds: tuple[str, ...], flow: str | None, task: str | None, run_id: str | None) -> Query:
    """Return the query for the values of ``selection_options``."""
    from flowstore.record import Query

    return Query(kinds or None, flow, task, run_id=run_id)


def conflict_option(command: _Command) -> _Command:
    """Add the option that decides between two records with the same key."""
    option = click.option(
        "--on-conflict",
        metavar="POLICY",
        type=click.Choice(["keep", "replace", "newer"]),
        default="keep",
        show_default=True,
        help="If the target has a different record: keep it, replace it, or let the newer win (keep, replace, newer).",
    )
    return option(command)


class Problems:
    """Print problems on stderr: the first ones, then how many more."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, problem: Problem) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            say(text.one_line(f"{problem.ref or 'a damaged record'}: {problem.message}"))

    def end(self) -> None:
        """Print how many problems were not printed."""
        if self._count > _SHOWN:
            say(f"… and {self._count - _SHOWN} more")


@contextmanager
def progress(doing: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr.

    Yields a function that takes the number of records done.

    Nothing is shown unless stderr is a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.console(err=True), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.update(task, completed=done)


def print_copied(form: str, result: CopyResult, **where: str) -> None:
    """Print the counts of a copy or import.

    Raises:
        Exit: some records could not be copied.
    """
    output.print_rows(form, _COPIED, [{**where, **asdict(result)}], lambda row: list(where.values()))
    if result.failed:
        raise partly_failed()


_COPIED = output.counts("copied", "skipped", "conflicts", "failed", bad=("conflicts", "failed"))
