"""``flowstore schema``: show and upgrade the versions of SQL tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flowstore.cli import output
from flowstore.cli.root import source
from flowstore.cli.status import end_with_failures, say
from flowstore.cli.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowstore.storage import VersionedSchema

_storages = click.argument("storages", metavar="[STORAGE]...", nargs=-1)


@click.group()
def schema() -> None:
    """Show and upgrade the versions of SQL tables.

    Without names, the commands apply to all storages with tables.
    """


@schema.command()
@_storages
@output.output_option
def current(storages: tuple[str, ...], form: str) -> None:
    """Show the version of the tables and the latest version."""

    def row(name: str, storage: VersionedSchema) -> list[dict[str, Any]]:
        latest = storage.schema_history()[-1].version
        version = storage.schema_version()
        return [{"storage": name, "version": version, "latest": latest, "up_to_date": version in (None, latest)}]

    _each(storages, row, form, _CURRENT)


@schema.command()
@_storages
@output.output_option
def history(storages: tuple[str, ...], form: str) -> None:
    """List the versions of the tables, the oldest first."""

    def rows(name: str, storage: VersionedSchema) -> list[dict[str, Any]]:
        return [{"storage": name, "version": one.version, "about": one.about} for one in storage.schema_history()]

    _each(storages, rows, form, _HISTORY)


@schema.command()
@_storages
@output.output_option
def upgrade(storages: tuple[str, ...], form: str) -> None:
    """Upgrade the tables to the latest version.

    Stop all workers that use the storage first.
    """

    def rows(name: str, storage: VersionedSchema) -> list[dict[str, Any]]:
        if storage.schema_version() is None:
            say(f"{printable(name)}: no tables yet; they are created on first use")
            return []
        done = storage.upgrade_schema()
        if not done:
            say(f"{printable(name)}: already up to date")
        return [{"storage": name, "version": one.version, "about": one.about} for one in done]

    _each(storages, rows, form, _HISTORY)


def _each(
    names: Sequence[str],
    work: Callable[[str, VersionedSchema], list[dict[str, Any]]],
    form: str,
    columns: Sequence[output.Column],
) -> None:
    """Print the rows that ``work`` returns per storage, and the failures."""
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
    """Return storages with a versioned schema, not connected.

    These are the named ones, or all.

    Raises:
        UnknownStorageError: no storage has this name.
        UnsupportedError: the storage has no versioned schema.
    """
    from flowstore.config.adapters import adapter_class, construct
    from flowstore.storage import VersionedSchema
    from flowstore.storage.capabilities import require

    store = source().open()
    entries = store._configuration.storages
    versioned: dict[str, VersionedSchema] = {}
    for name in dict.fromkeys(names) or entries:
        entry = store._router.get_entry(name)
        if names or issubclass(adapter_class(entry), VersionedSchema):
            storage: Any = construct(entry, store.storage)
            require(storage, VersionedSchema)
            versioned[name] = storage
    if not versioned:
        say("no storage has versioned tables")
    return versioned


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
