"""``flowstore export`` and ``flowstore import``: records in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

import click

from flowstore.cli import output
from flowstore.cli.copying import CONFLICTS, Problems, print_copied
from flowstore.cli.outcome import partly_failed, say
from flowstore.cli.progress import progress
from flowstore.cli.root import source
from flowstore.cli.selecting import query_of, query_options, records_of


@click.command(name="export")
@click.argument("storage")
@click.argument("path")
@query_options
@click.option("--force", is_flag=True, help="Replace PATH if it is there.")
@output.output_option
def export_(
    storage: str,
    path: str,
    kinds: tuple[str, ...],
    flow: str | None,
    task: str | None,
    run_id: str | None,
    force: bool,
    form: str,
) -> None:
    """Write the records of STORAGE to the file PATH, which appears when it is complete; "-" is stdout.

    Each line is one record as JSON. A PATH that ends with .gz or .zst is compressed.
    """
    from flowstore.copying import export_records

    if path != "-" and os.path.lexists(path) and not force:
        raise click.UsageError(f"{path} is there already; --force replaces it")
    records = records_of(source().open(), storage)
    query = query_of(kinds, flow, task, run_id)
    problems = Problems()
    with progress(f"exporting {storage}", records.count(query)) as show, _appearing(path) as file:
        done = export_records(records, file, query, progress=lambda so_far: show(so_far.records), report=problems)
    problems.end()
    if path == "-":
        say(f"{done.records} records, {done.blobs} of them blobs")
    else:
        row = {"storage": storage, "path": path, **asdict(done), "size": os.path.getsize(path)}
        output.print_rows(form, _EXPORTED, [row], lambda row: [row["path"]])
    if done.failed:
        raise partly_failed()


@click.command(name="import")
@click.argument("storage")
@click.argument("path")
@click.option(
    "--on-conflict",
    type=CONFLICTS,
    default="keep",
    show_default=True,
    help="What to do where STORAGE has something else: keep it, replace it, or let what was stored later stay.",
)
@output.output_option
def import_(storage: str, path: str, on_conflict: Any, form: str) -> None:
    """Write the records of the file PATH, which "export" wrote, to STORAGE, and read each again; "-" is stdin.

    Run again, it skips what has arrived.
    """
    from flowstore.copying import import_records

    records = records_of(source().open(), storage)
    problems = Problems()
    with progress(f"importing to {storage}", None) as show, _reading(path) as file:
        result = import_records(
            file, records, on_conflict=on_conflict, progress=lambda so_far: show(so_far.seen), report=problems
        )
    problems.end()
    print_copied(form, result, path=path, storage=storage)


@contextmanager
def _appearing(path: str) -> Iterator[IO[bytes]]:
    """Open a file that is there only when all has been written."""
    from flowstore.copying import open_export

    if path == "-":
        yield sys.stdout.buffer
        return
    with open_export(path, "wb") as file:
        yield file


@contextmanager
def _reading(path: str) -> Iterator[IO[bytes]]:
    from flowstore.copying import open_export

    if path == "-":
        yield sys.stdin.buffer
    else:
        with open_export(path, "rb") as file:
            yield file


_EXPORTED = (
    output.Column("RECORDS", lambda row: row["records"], right=True),
    output.Column("BLOBS", lambda row: row["blobs"], right=True),
    output.Column("FAILED", lambda row: row["failed"], right=True, style=lambda row: "red" if row["failed"] else ""),
    output.Column("BYTES", lambda row: row["size"], right=True),
    output.Column("PATH", lambda row: row["path"]),
)
