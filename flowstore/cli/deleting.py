"""``flowstore rm`` and ``flowstore cleanup``: delete after confirmation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flowstore.cli import output, reading, text
from flowstore.cli.reading import records_of
from flowstore.cli.root import source
from flowstore.cli.status import EXIT_INTERRUPTED, EXIT_USAGE, say

if TYPE_CHECKING:
    from flowstore.record import Record
    from flowstore.store import FlowStore

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _deleting_options(command: _Command) -> _Command:
    for option in (
        click.option("-y", "--yes", is_flag=True, help="Delete without confirmation."),
        click.option("--dry-run", is_flag=True, help="Only show what would be deleted."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("flow", required=False)
@click.argument("task", required=False)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--run", metavar="RUN", help="Delete all records of this run; its id may be abbreviated.")
@_deleting_options
@output.output_option
def rm(
    flow: str | None, task: str | None, ids: tuple[str, ...], run: str | None, dry_run: bool, yes: bool, form: str
) -> None:
    """Delete all records of tasks, or of a run.

    Results, errors, blobs and all other records are deleted, after confirmation. Without a terminal nothing is deleted,
    and the exit status is 2, unless --yes is given.
    """
    if (run is None) == (flow is None) or (run is None and not ids):
        raise click.UsageError("pass FLOW, TASK and at least one ID, or --run RUN")
    store = source().open()
    run_id = None if run is None else reading.find_run(store, run).id
    keys = [(str(flow), str(task), id) for id in ids]
    if run_id is not None:
        rows = [_row(storage, record) for storage, record in store._run_reader.records(run_id)]
    else:
        rows = [_row(storage, record) for key in keys for storage, record in _of_task(store, *key)]
    if not rows:
        from flowstore.errors import NotFoundError

        raise NotFoundError(f"no records of {f'run {run!r}' if run else ', '.join(map(repr, ids))} are stored")
    output.print_rows(form, _COLUMNS, rows, lambda row: [row["flow"], row["task"], row["id"]])
    if not _agreed(f"Delete {text.count_text(len(rows), 'record')}?", dry_run, yes):
        return
    deleted = store.delete_many(keys) if run_id is None else store.delete_run(run_id)
    say(f"deleted {text.count_text(deleted, 'record')}")


@click.command()
@click.option("--older-than", metavar="AGE", help="Also delete records older than this: 12h, 30d, 8w.")
@click.option("--storage", metavar="NAME", help="Only in this storage.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Only records of this kind: result, error, …")
@_deleting_options
@output.output_option
def cleanup(
    older_than: str | None, storage: str | None, kinds: tuple[str, ...], dry_run: bool, yes: bool, form: str
) -> None:
    """Delete records that have expired or are old.

    All storages in use are cleaned up, after confirmation. Without a terminal nothing is deleted, and the exit status
    is 2, unless --yes is given. Runs in progress are kept. Variables, configuration and history are kept unless they
    have expired or --kind names them.
    """
    from flowstore.duration import seconds

    try:
        age = None if older_than is None else seconds(older_than)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--older-than") from exc
    if older_than is not None and older_than.strip()[-1:].isdecimal():
        message = f"{older_than!r} has no unit: write {older_than.strip()}d for days; other units are s, m, h and w"
        raise click.BadParameter(message, param_hint="--older-than")
    store = source().open()
    names = reading.storages_in_use(store) if storage is None else [storage]
    if not yes or dry_run:
        rows = list(_candidates(store, names, age, kinds))
        output.print_rows(form, _CANDIDATES, rows, lambda row: [row["storage"]])
        at_most = sum(row["expired"] + row["old"] for row in rows)
        if not _agreed(f"Delete up to {text.count_text(at_most, 'record')}? Runs in progress are kept.", dry_run, yes):
            return
    deleted = store.cleanup(age, storage, kinds=kinds or None)
    say(f"deleted {text.count_text(deleted, 'record')}")


def _agreed(question: str, dry_run: bool, yes: bool) -> bool:
    """Return whether to delete; ask unless ``yes``.

    Raises:
        Exit: there is no terminal, or the user pressed Ctrl-C.
    """
    if dry_run:
        say("nothing was deleted")
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        say("nothing was deleted: no terminal for confirmation; pass --yes to delete")
        raise click.exceptions.Exit(EXIT_USAGE)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        say("\ninterrupted: nothing was deleted")
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    if not agreed:
        say("nothing was deleted")
    return agreed


def _of_task(store: FlowStore, flow: str, task: str, id: str) -> Iterator[tuple[str, Record]]:
    from flowstore.record import Query

    route = store._router.get_route(flow, task)
    query = Query(flow_name=flow, task_name=route.task_name, task_id=id)
    for record in records_of(store, route.storage.name).records(query, payload=False):
        yield route.storage.name, record


def _candidates(
    store: FlowStore, names: list[str], age: float | None, kinds: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    from flowstore.record import Query, survives_clear

    for name in names:
        storage = records_of(store, name)
        now = storage._time()
        expired = storage.count(Query(kinds or None, expired_at=now))
        old = 0
        if age is not None:
            heads = storage.records(Query(kinds or None, stored_before=now - age, live_at=now), payload=False)
            old = sum(1 for head in heads if kinds or not survives_clear(head.kind))
        yield {"storage": name, "expired": expired, "old": old}


def _row(storage: str, record: Record) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "flow": record.key.flow_name,
        "task": record.key.task_name,
        "id": record.key.task_id,
        "name": record.ref.name,
        "size": record.headers.get("size"),
        "storage": storage,
    }


_COLUMNS = (
    output.Column("KIND", lambda row: row["kind"]),
    output.Column("SIZE", lambda row: text.size_text(row["size"]), right=True),
    output.Column("FLOW", lambda row: row["flow"]),
    output.Column("TASK", lambda row: row["task"]),
    output.Column("ID", lambda row: row["id"]),
    output.Column("NAME", lambda row: row["name"]),
    output.Column("STORAGE", lambda row: row["storage"]),
)
_CANDIDATES = (
    output.Column("STORAGE", lambda row: row["storage"]),
    output.Column("EXPIRED", lambda row: row["expired"], right=True),
    output.Column("OLD", lambda row: row["old"], right=True),
)
