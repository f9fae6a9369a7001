"""``flowstore copy`` and ``flowstore verify``: from one storage to another."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from flowstore.cli import output, text
from flowstore.cli.outcome import ERROR, partly_failed, say
from flowstore.cli.progress import progress
from flowstore.cli.root import source
from flowstore.cli.selecting import query_of, query_options, records_of

if TYPE_CHECKING:
    from flowstore.copying import CopyResult, Problem

CONFLICTS = click.Choice(["keep", "replace", "newer"])
_TOLD = 20  # problems that are shown one by one


class Problems:
    """Tell of problems on stderr, the first ones one by one."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, problem: Problem) -> None:
        self._count += 1
        if self._count <= _TOLD:
            say(text.one_line(f"{problem.ref or 'a damaged record'}: {problem.message}"))

    def end(self) -> None:
        """Tell how many were not shown."""
        if self._count > _TOLD:
            say(f"… and {self._count - _TOLD} more")


@click.command()
@click.argument("from_", metavar="SOURCE")
@click.argument("to", metavar="TARGET")
@query_options
@click.option(
    "--on-conflict",
    type=CONFLICTS,
    default="keep",
    show_default=True,
    help="What to do where TARGET has something else: keep it, replace it, or let what was stored later stay.",
)
@click.option("--resume", metavar="PATH", help="A file that notes how far the copy is, to go on from there.")
@output.output_option
def copy(
    from_: str,
    to: str,
    kinds: tuple[str, ...],
    flow: str | None,
    task: str | None,
    run_id: str | None,
    on_conflict: Any,
    resume: str | None,
    form: str,
) -> None:
    """Copy records from the storage SOURCE to the storage TARGET, and read each again to see that it arrived.

    Nothing is deleted. Run again, it skips what has arrived: a copy that was interrupted is completed in this way.
    """
    from flowstore.copying import copy as copy_records

    if from_ == to:
        raise click.UsageError("SOURCE and TARGET are the same storage")
    store = source().open()
    query = query_of(kinds, flow, task, run_id)
    ours, theirs = records_of(store, from_), records_of(store, to)
    problems = Problems()
    with progress(f"copying to {to}", ours.count(query)) as show:
        try:
            result = copy_records(
                ours,
                theirs,
                query,
                on_conflict=on_conflict,
                resume=resume,
                progress=lambda so_far: show(so_far.seen),
                report=problems,
            )
        except ValueError as exc:
            raise click.UsageError(str(exc)) from exc
    problems.end()
    print_copied(form, result, source=from_, target=to)


def print_copied(form: str, result: CopyResult, **where: str) -> None:
    """Print what a copy or import has done; end the command with what failed."""
    output.print_rows(form, _COPIED, [{**where, **asdict(result)}], lambda row: list(where.values()))
    if result.failed:
        raise partly_failed()


@click.command()
@click.argument("from_", metavar="SOURCE")
@click.argument("to", metavar="TARGET")
@query_options
@output.output_option
def verify(
    from_: str,
    to: str,
    kinds: tuple[str, ...],
    flow: str | None,
    task: str | None,
    run_id: str | None,
    form: str,
) -> None:
    """Compare two storages: every record is read from both. Changes nothing; ends with 1 if they are not the same."""
    from flowstore.copying import verify as compare

    store = source().open()
    query = query_of(kinds, flow, task, run_id)
    ours, theirs = records_of(store, from_), records_of(store, to)
    problems = Problems()
    with progress("comparing", ours.count(query)) as show:
        result = compare(ours, theirs, query, progress=lambda so_far: show(so_far.seen), report=problems)
    problems.end()
    row = {"source": from_, "target": to, **asdict(result)}
    output.print_rows(form, _COMPARED, [row], lambda row: [row["source"], row["target"]])
    if not result.is_same:
        raise click.exceptions.Exit(ERROR)


def _numbers(*names: str) -> tuple[output.Column, ...]:
    return tuple(
        output.Column(
            name.upper(),
            lambda row, name=name: row[name],  # type: ignore[misc]
            right=True,
            style=lambda row, name=name: "red" if name in _BAD and row[name] else "",  # type: ignore[misc]
        )
        for name in names
    )


_BAD = ("conflicts", "failed", "different", "missing", "extra", "corrupt")
_COPIED = _numbers("copied", "skipped", "conflicts", "failed")
_COMPARED = _numbers("same", "different", "missing", "extra", "corrupt")
