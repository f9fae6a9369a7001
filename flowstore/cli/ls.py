"""``flowstore ls``: list flows, the runs of a flow, or stored records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from flowstore.cli import output, reading, text
from flowstore.cli.root import source
from flowstore.cli.status import end_with_failures, say

if TYPE_CHECKING:
    from flowstore.record import Record

_ALL: Final = 2**62
_LATEST: Final = 1000  # runs of each storage that are counted by flow


def _fields(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{one!r} is not of the form FIELD=VALUE", ctx, parameter)
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    return fields


@click.command()
@click.argument("flow", required=False)
@click.option("--storage", metavar="NAME", help="List the records of this storage instead.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Only records of this kind: result, error, run, …")
@click.option("--task", metavar="NAME", help="Only records of this task.")
@click.option("--pattern", metavar="ID", help="Only task ids that match; * and ? are wildcards.")
@click.option(
    "--where",
    metavar="FIELD=VALUE",
    multiple=True,
    callback=_fields,
    help="Only values with this field: price=3, address.city=Oslo. VALUE is JSON, or else a string. May be repeated.",
)
@click.option(
    "--order",
    metavar="ORDER",
    type=click.Choice(["stored", "task_id"]),
    default="stored",
    show_default=True,
    help="Sort by stored (the latest first) or task_id.",
)
@click.option("--skip", metavar="N", type=click.IntRange(min=0), default=0, help="Leave out the first N records.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most N entries."
)
@click.option("--cursor", metavar="CURSOR", help="Continue an earlier listing.")
@click.option("--all", "complete", is_flag=True, help=f"Count all runs of flows, not only the latest {_LATEST:,}.")
@output.output_option
def ls(
    flow: str | None,
    storage: str | None,
    kinds: tuple[str, ...],
    task: str | None,
    pattern: str | None,
    where: dict[str, Any],
    order: Literal["stored", "task_id"],
    skip: int,
    limit: int,
    cursor: str | None,
    complete: bool,
    form: str,
) -> None:
    """List flows, the runs of a flow, or stored records.

    Without FLOW, flows that were started are listed. Each storage is listed in turn, the latest entries first. A task
    that was not part of a flow has its task name as its flow name.
    """
    if storage is None and (kinds or task is not None or pattern is not None or where or order != "stored" or skip):
        raise click.UsageError("--kind, --task, --pattern, --where, --order and --skip need --storage")
    if storage is None and flow is None:
        if cursor is not None:
            raise click.UsageError("--cursor needs a FLOW or --storage")
        _list_flows(limit, form, complete)
        return
    if complete:
        raise click.UsageError("--all is for listing flows; use --limit for runs and records")
    from flowstore.record import RUN, Query

    store = source().open()
    if storage is None:
        assert flow is not None
        query = Query(kinds=(RUN,), flow_name=flow, descending=True)
        listing = reading.Listing(store, reading.storages_of_runs(store, flow), query, limit, cursor)
        rows = _Counted(_run_row(record) for _, record in listing if not record.ref.name)
        output.print_rows(form, _RUN_COLUMNS, rows, lambda row: [row["run"]])
        if not rows.count and cursor is None and not listing.failures:
            say(f"no run of flow {text.printable(flow)!r} is stored")
    else:
        try:
            query = Query(
                kinds or None,
                flow,
                task,
                descending=order == "stored",
                pattern=pattern,
                where=where,
                order=order,
                skip=skip,
            )
        except ValueError as exc:
            raise click.UsageError(str(exc)) from exc
        listing = reading.Listing(store, [storage], query, limit, cursor)
        rows = _Counted(_record_row(record) for _, record in listing)
        output.print_rows(form, _RECORD_COLUMNS, rows, lambda row: [row["flow"], row["task"], row["id"]])
        if not rows.count:
            _report_unknown_kinds(kinds)
    reading.finish(listing)


class _Counted:
    """Rows, counted as they are printed."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            self.count += 1
            yield row


def _report_unknown_kinds(kinds: tuple[str, ...]) -> None:
    """Print which of these kinds flowstore does not know."""
    from flowstore.config.mistakes import did_you_mean
    from flowstore.record import known_kinds

    for kind in kinds:
        if kind not in known_kinds():
            say(f"unknown kind {text.printable(kind)!r}. {did_you_mean(kind, known_kinds())}")


def _list_flows(limit: int, form: str, complete: bool) -> None:
    from flowstore.record import RUN, Query

    store = source().open()
    names = reading.storages_of_runs(store)
    query = Query(kinds=(RUN,), descending=True)
    searched = _ALL if complete else _LATEST
    listings = [reading.Listing(store, [name], query, searched, page=_LATEST) for name in names]
    rows = [row for listing in listings for row in _flow_rows(listing, len(names) > 1)]
    failures = {name: exc for listing in listings for name, exc in listing.failures.items()}
    output.print_rows(form, _FLOW_COLUMNS, rows[:limit], lambda row: [row["flow"]])
    if not rows and not failures:
        say("no runs are stored: start flows with FlowStore.start to record them")
    if len(rows) > limit:
        say(f"{text.count_text(len(rows) - limit, 'more flow')}: show all with --limit {len(rows)}")
    if any(listing.next_cursor is not None for listing in listings):
        say(f"only the latest {_LATEST:,} runs of each storage are counted: count all with --all")
    end_with_failures(failures, len(names))


def _flow_rows(listing: reading.Listing, several: bool) -> list[dict[str, Any]]:
    """Count the runs of each flow in a storage; holds one row per flow."""
    from flowstore.errors import UnsupportedError

    rows: dict[str, dict[str, Any]] = {}
    try:
        for storage, record in listing:
            if record.ref.name:
                continue
            row = rows.setdefault(
                record.key.flow_name,
                {
                    "flow": record.key.flow_name,
                    "runs": 0,
                    "last_run": record.key.task_id,
                    "last_started_at": text.moment(record.headers.get("started_at")),
                    "storage": storage,
                },
            )
            row["runs"] += 1
    except UnsupportedError:
        if not several:
            raise
    return list(rows.values())


def _run_row(record: Record) -> dict[str, Any]:
    return {
        "flow": record.key.flow_name,
        "run": record.key.task_id,
        "started_at": text.moment(record.headers.get("started_at")),
        "parent_run": record.headers.get("parent_run_id"),
    }


def _record_row(record: Record) -> dict[str, Any]:
    headers = record.headers
    return {
        "kind": record.kind,
        "flow": record.key.flow_name,
        "task": record.key.task_name,
        "id": record.key.task_id,
        "name": record.ref.name,
        "state": headers.get("state"),
        "attempt": headers.get("attempt"),
        "run": record.run_id,
        "size": headers.get("size"),
        "revision": record.revision,
        "stored_at": text.moment(headers.get("stored_at")),
    }


_FLOW_COLUMNS = (
    output.Column("FLOW", lambda row: row["flow"]),
    output.Column("RUNS", lambda row: row["runs"], right=True),
    output.Column("LAST STARTED", lambda row: text.local_time(row["last_started_at"])),
    output.Column("LAST RUN", lambda row: row["last_run"]),
    output.Column("STORAGE", lambda row: row["storage"]),
)
_RUN_COLUMNS = (
    output.Column("RUN", lambda row: row["run"]),
    output.Column("STARTED", lambda row: text.local_time(row["started_at"])),
    output.Column("STARTED BY RUN", lambda row: row["parent_run"]),
)
_RECORD_COLUMNS = (
    output.Column("STORED", lambda row: text.local_time(row["stored_at"])),
    output.Column("KIND", lambda row: row["kind"]),
    output.Column("STATE", lambda row: row["state"], style=lambda row: output.state_style(row["state"])),
    output.Column("ATTEMPT", lambda row: row["attempt"], right=True),
    output.Column("SIZE", lambda row: text.size_text(row["size"]), right=True),
    output.Column("FLOW", lambda row: row["flow"]),
    output.Column("TASK", lambda row: row["task"]),
    output.Column("ID", lambda row: row["id"]),
)
