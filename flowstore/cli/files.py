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
from flowstore.cli.reading import records_of
from flowstore.cli.root import source
from flowstore.cli.status import partly_failed, say
from flowstore.cli.text import count_text
from flowstore.cli.transfer import Problems, conflict_option, print_copied, progress, selection, selection_options


@click.command(name="export")
@click.argument("storage")
@click.argument("path")
@selection_options
@click.option("--force", is_flag=True, help="Replace PATH if it exists.")
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
    """Write the records of a storage to a file.

    Each line is one record as JSON. A PATH that ends with .gz or .zst is compressed; "-" is stdout. The file appears
    when it is complete.
    """
    from flowstore.copying import export_records

    if path != "-" and os.path.lexists(path) and not force:
        raise click.UsageError(f"{path} exists; pass --force to replace it")
    records = records_of(source().open(), storage)
    query = selection(kinds, flow, task, run_id)
    problems = Problems()
    with progress(f"exporting {storage}", records.count(query)) as show, _appearing(path) as file:
        done = export_records(records, file, query, progress=lambda so_far: show(so_far.records), report=problems)
    problems.end()
    if path == "-":
        say(f"exported {count_text(done.records, 'record')}, {done.blobs} of them blobs")
    else:
        row = {"storage": storage, "path": path, **asdict(done), "size": os.path.getsize(path)}
        output.print_rows(form, _EXPORTED, [row], lambda row: [row["path"]])
    if done.failed:
        raise partly_failed()


@click.command(name="import")
@click.argument("storage")
@click.argument("path")
@conflict_option
@output.output_option
def import_(storage: str, path: str, on_conflict: Any, form: str) -> None:
    """Write the records of an exported file to a storage.

    PATH is a file that "flowstore export" wrote; "-" is stdin. Each record is read again to verify it. Records that
    STORAGE already has are skipped: to complete an interrupted import, run it again.
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
    """Open a file that appears when the block ends without an error."""
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
    *output.counts("records", "blobs", "failed", bad=("failed",)),
    output.Column("BYTES", lambda row: row["size"], right=True),
    output.Column("PATH", lambda row: row["path"]),
)
