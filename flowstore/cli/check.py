"""``flowstore check``: validate the configuration, reach storages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from flowstore.cli import output
from flowstore.cli.root import source
from flowstore.cli.status import end_with_failures, say
from flowstore.cli.text import LINES, printable

if TYPE_CHECKING:
    from flowstore.config import Configuration
    from flowstore.config.mistakes import Mistake
    from flowstore.store import FlowStore


@click.command()
@click.option("--connect", is_flag=True, help="Also connect to each storage.")
@click.option("--json-schema", is_flag=True, help="Only print the JSON Schema of configurations.")
@output.output_option
def check(connect: bool, json_schema: bool, form: str) -> None:
    """Check the configuration and list all mistakes.

    Each mistake is shown with its place in the file. Nothing is connected without --connect.
    """
    if json_schema:
        from flowstore.config.json_schema import json_schema as make_schema

        output.print_json(make_schema())
        return
    store = source().open(allow_missing_drivers=connect)
    configuration = store._configuration
    for warning in (*configuration.warnings, *_unknown_tasks(configuration, source().app)):
        say(f"warning: {printable(str(warning), keep=LINES)}")
    failures = _connect(store) if connect else {}
    rows = [
        {
            "storage": entry.name,
            "adapter": f"{entry.module}.{entry.classname}",
            "default": entry.name == configuration.default_storage,
            "tasks": sum(task.storage == entry.name for task in configuration.tasks.values()),
            "flows": sum(flow.storage == entry.name for flow in configuration.flows.values()),
            "connected": entry.name not in failures if connect else None,
        }
        for entry in configuration.storages.values()
    ]
    output.print_rows(form, _CONNECTED if connect else _COLUMNS, rows, lambda row: [row["storage"]])
    end_with_failures(failures, len(rows))
    say(f"{printable(configuration.source)} is fine")


def _connect(store: FlowStore) -> dict[str, Exception]:
    from flowstore.errors import FlowstoreError

    failures: dict[str, Exception] = {}
    for name in store._configuration.storages:
        try:
            store.storage(name)
        except FlowstoreError as exc:
            failures[name] = exc
    return failures


def _unknown_tasks(configuration: Configuration, app: Any) -> Iterator[Mistake]:
    """Yield a mistake for each configured task that the app does not have."""
    if app is None:
        return
    from flowstore.config.mistakes import Mistake, did_you_mean

    app.loader.import_default_modules()
    known = [name for name in app.tasks if not name.startswith("celery.")]
    for task in configuration.tasks.values():
        if task.name not in app.tasks:
            message = f"the app has no task {task.name!r}"
            hint = did_you_mean(task.name, known)
            yield Mistake(task.place, "tasks", message, hint if hint and hint.startswith("Did") else None)


_COLUMNS = (
    output.Column("STORAGE", lambda row: row["storage"]),
    output.Column("ADAPTER", lambda row: row["adapter"]),
    output.Column("TASKS", lambda row: row["tasks"], right=True),
    output.Column("FLOWS", lambda row: row["flows"], right=True),
    output.Column("DEFAULT", lambda row: "yes" if row["default"] else ""),
)
_CONNECTED = (
    *_COLUMNS,
    output.Column(
        "CONNECTED",
        lambda row: "yes" if row["connected"] else "no",
        style=lambda row: "green" if row["connected"] else "red",
    ),
)
