"""Options by which commands select records, and the storages that they work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from flowstore.record import Query
    from flowstore.storage import RecordStorage
    from flowstore.store import FlowStore

Command = TypeVar("Command", bound=Callable[..., Any])


def query_options(command: Command) -> Command:
    """Add the options that select records."""
    for option in (
        click.option("--run", "run_id", metavar="RUN", help="Only records of this run."),
        click.option("--task", metavar="NAME", help="Only records of this task."),
        click.option("--flow", metavar="NAME", help="Only records of this flow."),
        click.option("--kind", "kinds", multiple=True, help="Only records of this kind (result, error, …)."),
    ):
        command = option(command)
    return command


def query_of(kinds: tuple[str, ...], flow: str | None, task: str | None, run_id: str | None) -> Query:
    """Return what the options select."""
    from flowstore.record import Query

    return Query(kinds or None, flow, task, run_id=run_id)


def records_of(store: FlowStore, name: str) -> RecordStorage:
    """Return a storage that keeps records, connected.

    Raises:
        UnknownStorageError: there is none of that name.
        UnsupportedError: it keeps no records.
    """
    from flowstore.store.operations import as_records

    return as_records(store.storage(name))
