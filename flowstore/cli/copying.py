"""``flowstore copy`` and ``verify``: from one storage to another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from flowstore.cli import output
from flowstore.cli.reading import records_of
from flowstore.cli.root import source
from flowstore.cli.status import EXIT_ERROR
from flowstore.cli.transfer import Problems, conflict_option, print_copied, progress, selection, selection_options


@click.command()
@click.argument("from_", metavar="SOURCE")
@click.argument("to", metavar="TARGET")
@selection_options
@conflict_option
@click.option("--resume", metavar="PATH", help="Save the progress in this file, and continue from it.")
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
    """Copy records from one storage to another.

    Each record is read again from TARGET to verify it. Nothing is deleted from SOURCE. Records that TARGET already has
    are skipped: to complete an interrupted copy, run it again.
    """
    from flowstore.copying import copy as copy_records

    if from_ == to:
        raise click.UsageError("SOURCE and TARGET are the same storage")
    store = source().open()
    query = selection(kinds, flow, task, run_id)
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


@click.command()
@click.argument("from_", metavar="SOURCE")
@click.argument("to", metavar="TARGET")
@selection_options
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
    """Compare the records of two storages.

    Every record is read from both; nothing is changed. Exits with 1 if the storages differ.
    """
    from flowstore.copying import verify as compare

    store = source().open()
    query = selection(kinds, flow, task, run_id)
    ours, theirs = records_of(store, from_), records_of(store, to)
    problems = Problems()
    with progress("comparing", ours.count(query)) as show:
        result = compare(ours, theirs, query, progress=lambda so_far: show(so_far.seen), report=problems)
    problems.end()
    row = {"source": from_, "target": to, **asdict(result)}
    output.print_rows(form, _COMPARED, [row], lambda row: [row["source"], row["target"]])
    if not result.is_same:
        raise click.exceptions.Exit(EXIT_ERROR)


_COMPARED = output.counts(
    "same", "different", "missing", "extra", "corrupt", bad=("different", "missing", "extra", "corrupt")
)
