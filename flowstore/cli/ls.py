"""``flowstore ls``: flows, the runs of a flow, or the records of a storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import click

from flowstore.cli import output, reading, text
from flowstore.cli.outcome import fail, partly_failed, say
from flowstore.cli.root import source

if TYPE_CHECKING:
    from flowstore.record import Record

_ALL = 2**62
_LATEST = 1000  # runs of each storage that are looked at for the flows they belong to


def _fields(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{one!r} is not of the form FIELD=VALUE", ctx, parameter)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@click.command()
@click.argument("flow", required=False)
@click.option("--storage", metavar="NAME", help="List the records of this storage instead.")
@click.option("--kind", "kinds", multiple=True, help="Only records of this kind (result, error, run, …).")
@click.option("--task", metavar="NAME", help="Only records of this task.")
@click.option("--pattern", metavar="ID", help="Only records whose task ids are like this; * and ? are wildcards.")
@click.option(
    "--where",
    metavar="FIELD=VALUE",
    multiple=True,
    callback=_fields,
    help="Only values with this in a field: price=3, address.city=Oslo. Text that is no JSON is a string.",
)
@click.option("--order", type=click.Choice(["stored", "task_id"]), default="stored", show_default=True, help="By what.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="How many to leave out first.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", help="Go on where an earlier listing ended.")
@click.option("--all", "complete", is_flag=True, help=f"Count all runs of the flows, not only the latest {_LATEST:,}.")
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
    """List flows that were started, the runs of a FLOW, or the records of a storage; in each storage the latest first.

    A task without a flow of its own is stored under its own name as the flow's.
    """
    if storage is None and (kinds or task is not None or pattern is not None or where or order != "stored" or skip):
        raise click.UsageError("--kind, --task, --pattern, --where, --order and --skip need --storage")
    if storage is None and flow is None:
        if cursor is not None:
            raise click.UsageError("--cursor needs a FLOW or --storage")
        _list_flows(limit, form, complete)
        return
    if complete:
        raise click.UsageError("--all is for the list of flows; of runs and records --limit tells how many")
    from flowstore.record import RUN, Query

    store = source().open()
    if storage is None:
        assert flow is not None
        query = Query(kinds=(RUN,), flow_name=flow, descending=True)
        listing = reading.Listing(store, reading.storages_of_runs(store, flow), query, limit, cursor)
        found = _Counted(_run_row(record) for _, record in listing if not record.ref.name)
        output.print_rows(form, _RUN_COLUMNS, found, lambda row: [row["run"]])
        if not found.count and cursor is None and not listing.failures:
            say(f"no run of a flow {text.printable(flow)!r} is stored")
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
        found = _Counted(_record_row(record) for _, record in listing)
        output.print_rows(form, _RECORD_COLUMNS, found, lambda row: [row["flow"], row["task"], row["id"]])
        if not found.count:
            _say_of_unknown(kinds)
    finish(listing)


class _Counted:
    """Rows that are counted while they are printed."""

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            self.count += 1
            yield row


def _say_of_unknown(kinds: tuple[str, ...]) -> None:
    """Tell of kinds that nothing is stored of, and that flowstore itself does not know."""
    from flowstore.config.mistakes import did_you_mean
    from flowstore.record import known_kinds

    for kind in kinds:
        if kind not in known_kinds():
            say(f"no kind {text.printable(kind)!r} is known here. {did_you_mean(kind, known_kinds())}")


def finish(listing: reading.Listing) -> None:
    """Tell on stderr what is left of a listing, and what could not be read."""
    if listing.next_cursor is not None:
        say(f"there may be more: --cursor '{text.printable(listing.next_cursor)}'")
    end_with_failures(listing.failures, len(listing.storages))


def end_with_failures(failures: dict[str, Exception], asked: int) -> None:
    """End the command with what storages raised: with the error itself where nothing else could be read."""
    if not failures:
        return
    *others, last = failures.values()
    if len(failures) == asked:
        for exc in others:
            fail(exc)
        raise last
    for exc in failures.values():
        fail(exc)
    raise partly_failed()


def _list_flows(limit: int, form: str, complete: bool) -> None:
    from flowstore.record import RUN, Query

    store = source().open()
    names = reading.storages_of_runs(store)
    query = Query(kinds=(RUN,), descending=True)
    looked = _ALL if complete else _LATEST
    listings = [reading.Listing(store, [name], query, looked, page=_LATEST) for name in names]
    rows = [row for listing in listings for row in _flow_rows(listing, len(names) > 1)]
    failures = {name: exc for listing in listings for name, exc in listing.failures.items()}
    output.print_rows(form, _FLOW_COLUMNS, rows[:limit], lambda row: [row["flow"]])
    if not rows and not failures:
        say("no flow was started yet (runs are known of flows started with FlowStore.start)")
    if len(rows) > limit:
        say(f"{len(rows) - limit} flows more: --limit {len(rows)}")
    if any(listing.next_cursor is not None for listing in listings):
        say(f"these are the flows of the latest {_LATEST:,} runs, and how many of those are theirs: --all counts all")
    end_with_failures(failures, len(names))


def _flow_rows(listing: reading.Listing, several: bool) -> list[dict[str, Any]]:
    """Count the runs of each flow of a storage; only one row for a flow is kept in memory."""
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
