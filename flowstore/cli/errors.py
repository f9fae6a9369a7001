"""``flowstore errors``: list stored errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flowstore.cli import output, reading, text
from flowstore.cli.root import source
from flowstore.cli.status import fail, partly_failed, say

if TYPE_CHECKING:
    from flowstore.record import Record
    from flowstore.store import FlowStore


@click.command()
@click.argument("flow", required=False)
@click.option("--run", metavar="RUN", help="Only errors of this run; its id may be abbreviated.")
@click.option("--task", metavar="NAME", help="Only errors of this task.")
@click.option("--full", is_flag=True, help="Show tracebacks, with all causes.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most N errors."
)
@click.option("--cursor", metavar="CURSOR", help="Continue an earlier listing.")
@output.output_option
def errors(
    flow: str | None, run: str | None, task: str | None, full: bool, limit: int, cursor: str | None, form: str
) -> None:
    """List errors, the latest first in each storage.

    These are the errors that ended a task, and those of attempts that were retried.
    """
    from flowstore.record import ERROR, Query

    store = source().open()
    run_id = None if run is None else reading.find_run(store, run).id
    query = Query(
        (ERROR,), flow, None if task is None else store._router.stored_name(task), run_id=run_id, descending=True
    )
    listing = reading.Listing(store, reading.storages_in_use(store), query, limit, cursor, payload=True)
    rows: list[dict[str, Any]] = []
    damaged: list[Exception] = []
    for storage, record in listing:
        rows.append(_row(store, storage, record, full, damaged))
    if full and form == "table":
        _print_full(rows)
    else:
        output.print_rows(form, _COLUMNS, rows, lambda row: [row["flow"], row["task"], row["id"]])
    if not rows and not listing.failures:
        say("no errors found")
    for exc in damaged:
        fail(exc)
    reading.finish(listing)
    if damaged:
        raise partly_failed()


def _row(store: FlowStore, storage: str, record: Record, full: bool, damaged: list[Exception]) -> dict[str, Any]:
    from flowstore.errors import CorruptError
    from flowstore.store.operations import as_records

    headers = record.headers
    row: dict[str, Any] = {
        "flow": record.key.flow_name,
        "task": record.key.task_name,
        "id": record.key.task_id,
        "run": record.run_id,
        "state": headers.get("state"),
        "attempt": headers.get("attempt"),
        "at": text.moment(headers.get("finished_at", headers.get("stored_at"))),
        "storage": storage,
    }
    try:
        failure = as_records(store.storage(storage)).pipeline.decode_error(record).failure
    except CorruptError as exc:
        damaged.append(exc)
        return {**row, "type": None, "message": "(the stored error is damaged)", "chain": None}
    row |= {"type": f"{failure.module}.{failure.type_name}", "message": failure.message, "summary": failure.summary}
    if full:
        row["chain"] = failure.format()
        row["node_args"] = failure.node_args
    return row


def _print_full(rows: list[dict[str, Any]]) -> None:
    from rich.text import Text

    console = output.console()
    for row in rows:
        head = f"{text.printable(row['flow'])}  {text.printable(row['task'])}  {text.printable(row['id'])}"
        attempt = f"  attempt {row['attempt']}" if row["attempt"] else ""
        style = output.state_style(row["state"])
        state = text.printable(str(row["state"] or ""))
        console.print(Text.assemble((head, "bold"), "  ", (state, style), attempt), soft_wrap=True)
        if row.get("node_args"):
            console.print(Text(f"called with {text.one_line(row['node_args'])}"), soft_wrap=True)
        console.print(Text(text.printable(row["chain"] or row["message"], keep=text.LINES)), soft_wrap=True)
        console.print()


_COLUMNS = (
    output.Column("AT", lambda row: text.local_time(row["at"])),
    output.Column("STATE", lambda row: row["state"], style=lambda row: output.state_style(row["state"])),
    output.Column("ATTEMPT", lambda row: row["attempt"], right=True),
    output.Column("FLOW", lambda row: row["flow"]),
    output.Column("TASK", lambda row: row["task"]),
    output.Column("ID", lambda row: row["id"]),
    output.Column(
        "ERROR", lambda row: text.one_line(row.get("summary") or row["message"]), below=True, style=lambda row: "red"
    ),
)
