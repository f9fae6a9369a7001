"""``flowstore schema``: the version of a database's tables, and bringing older ones up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flowstore.cli import output
from flowstore.cli.ls import end_with_failures
from flowstore.cli.outcome import say
from flowstore.cli.root import source
from flowstore.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowstore.storage import VersionedSchema

_storages = click.argument("storages", metavar="[STORAGE]...", nargs=-1)


@click.group()
def schema() -> None:
    """Show and change the version of storages' tables; without names, of all that have some."""


@schema.command()
@_storages
@output.output_option
def current(storages: tuple[str, ...], form: str) -> None:
    """Show the version of the tables, and the latest one."""

    def row(name: str, storage: VersionedSchema) -> list[dict[str, Any]]:
        latest = storage.schema_history()[-1].version
        found = storage.schema_version()
        return [{"storage": name, "version": found, "latest": latest, "up_to_date": found in (None, latest)}]

    _each(storages, row, form, _CURRENT)


@schema.command()
@_storages
@output.output_option
def history(storages: tuple[str, ...], form: str) -> None:
    """List all versions of the tables, the oldest first."""

    def rows(name: str, storage: VersionedSchema) -> list[dict[str, Any]]:
        return [{"storage": name, "version": one.version, "about": one.about} for one in storage.schema_history()]

    _each(storages, rows, form, _HISTORY)


@schema.command()
@_storages
@output.output_option
def upgrade(storages: tuple[str, ...], form: str) -> None:
    """Bring the tables to the latest version. Stop what uses them first."""

    def rows(name: str, storage: VersionedSchema) -> list[dict[str, Any]]:
        if storage.schema_version() is None:
            say(f"{printable(name)}: there are no tables yet; the first use creates the latest ones")
            return []
        done = storage.upgrade_schema()
        if not done:
            say(f"{printable(name)}: nothing to do")
        return [{"storage": name, "version": one.version, "about": one.about} for one in done]

    _each(storages, rows, form, _HISTORY)


def _each(
    names: Sequence[str],
    work: Callable[[str, VersionedSchema], list[dict[str, Any]]],
    form: str,
    columns: Sequence[output.Column],
) -> None:
    """Print what some work on each storage gives; go on with the others where it fails."""
    from flowstore.errors import FlowstoreError

    rows: list[dict[str, Any]] = []
    failures: dict[str, Exception] = {}
    storages = _versioned(names)
    for name, storage in storages.items():
        try:
            rows += work(name, storage)
        except FlowstoreError as exc:
            failures[name] = exc
    output.print_rows(form, columns, rows, lambda row: [row["storage"], row["version"] or ""])
    end_with_failures(failures, len(storages))


def _versioned(names: Sequence[str]) -> dict[str, VersionedSchema]:
    """Return the storages of these names, or all that have versions; none of them is connected.

    Raises:
        UnknownStorageError: there is none of that name.
        UnsupportedError: it has no versions.
    """
    from flowstore.config import loading
    from flowstore.errors import UnknownStorageError
    from flowstore.storage import VersionedSchema
    from flowstore.storage.capabilities import require

    store = source().open()
    entries = store.configuration.storages
    found: dict[str, VersionedSchema] = {}
    for name in dict.fromkeys(names) or entries:
        if name not in entries:
            raise UnknownStorageError(f"no storage named {name!r}; declared are: {', '.join(entries) or 'none'}")
        if names or issubclass(loading.adapter_class(entries[name]), VersionedSchema):
            storage: Any = loading.construct(entries[name], store.storage)
            require(storage, VersionedSchema)
            found[name] = storage
    if not found:
        say("no storage has tables with versions")
    return found


_CURRENT = (
    output.Column("STORAGE", lambda row: row["storage"]),
    output.Column("VERSION", lambda row: row["version"] or "none yet"),
    output.Column("LATEST", lambda row: row["latest"]),
    output.Column(
        "UP TO DATE",
        lambda row: "yes" if row["up_to_date"] else "no",
        style=lambda row: "green" if row["up_to_date"] else "red",
    ),
)
_HISTORY = (
    output.Column("STORAGE", lambda row: row["storage"]),
    output.Column("VERSION", lambda row: row["version"]),
    output.Column("ABOUT", lambda row: row["about"]),
)
