"""``flowstore storages``, ``ping`` and ``stats``: list, reach and count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from flowstore.cli import output, text
from flowstore.cli.reading import records_of
from flowstore.cli.root import source
from flowstore.cli.status import end_with_failures

if TYPE_CHECKING:
    from flowstore.store import FlowStore

_PING_FLOW: Final = "flowstore ping"


@click.command()
@output.output_option
def storages(form: str) -> None:
    """List the configured storages.

    Nothing is connected.
    """
    from flowstore.config.adapters import adapter_class
    from flowstore.config.loading import references
    from flowstore.storage.capabilities import capabilities_of

    configuration = source().open()._configuration
    rows = [
        {
            "storage": entry.name,
            "adapter": f"{entry.module}.{entry.classname}",
            "default": entry.name == configuration.default_storage,
            "tasks": [task.name for task in configuration.tasks.values() if task.storage == entry.name],
            "flows": [flow.name for flow in configuration.flows.values() if flow.storage == entry.name],
            "works_on": list(dict.fromkeys(reference.name for reference in references(entry))),
            "capabilities": [each.__name__ for each in capabilities_of(adapter_class(entry))],
        }
        for entry in configuration.storages.values()
    ]
    output.print_rows(form, _STORAGES, rows, lambda row: [row["storage"]])


@click.command()
@click.argument("names", metavar="[STORAGE]...", nargs=-1)
@output.output_option
def ping(names: tuple[str, ...], form: str) -> None:
    """Check that storages answer.

    Connects to each STORAGE, or to all, and reads from it.
    """
    from flowstore.errors import FlowstoreError

    store = source().open(allow_missing_drivers=True)
    failures: dict[str, Exception] = {}
    rows = []
    for name in names or store._configuration.storages:
        try:
            connected, answered = _ping(store, name)
        except FlowstoreError as exc:
            failures[name] = exc
            rows.append({"storage": name, "answers": False, "connect_ms": None, "answer_ms": None})
        else:
            rows.append({"storage": name, "answers": True, "connect_ms": connected, "answer_ms": answered})
    output.print_rows(form, _ANSWERS, rows, lambda row: [row["storage"]] if row["answers"] else [])
    end_with_failures(failures, len(rows))


def _ping(store: FlowStore, name: str) -> tuple[float, float]:
    """Return the milliseconds for connecting, and for an answer."""
    start = time.perf_counter()
    storage = store.storage(name)
    connected = time.perf_counter()
    try:
        storage.retrieve(_PING_FLOW, "", "")
    except Exception as exc:  # a user's adapter may raise anything
        from flowstore.errors import NotFoundError

        if not isinstance(exc, (NotFoundError, *storage.not_found_errors)):
            raise _named(name, exc) from exc
    return round((connected - start) * 1000, 1), round((time.perf_counter() - connected) * 1000, 1)


def _named(name: str, exc: Exception) -> Exception:
    """Return flowstore's errors unchanged.

    Other errors become one that names the storage.
    """
    from flowstore.errors import FlowstoreError, StorageError

    if isinstance(exc, FlowstoreError):
        return exc
    return StorageError(f"storage {name!r} failed: {type(exc).__name__}: {exc}")


@click.command()
@click.argument("names", metavar="[STORAGE]...", nargs=-1)
@click.option("--sizes", is_flag=True, help="Also add up payload sizes; reads the headers of every record.")
@output.output_option
def stats(names: tuple[str, ...], sizes: bool, form: str) -> None:
    """Count the records of storages, by kind.

    Without names, all storages are counted.
    """
    from flowstore.errors import UnsupportedError

    store = source().open(allow_missing_drivers=True)
    failures: dict[str, Exception] = {}
    counted = list(names or store._configuration.storages)
    rows: list[dict[str, Any]] = []
    for name in counted:
        try:
            rows += list(_counted(store, name, sizes))
        except UnsupportedError as exc:
            if names:
                failures[name] = exc  # the adapter can't list
        except Exception as exc:  # a user's adapter may raise anything
            failures[name] = _named(name, exc)
    output.print_rows(form, (*_COUNTS, _SIZE) if sizes else _COUNTS, rows, lambda row: [row["storage"], row["kind"]])
    end_with_failures(failures, len(counted))


def _counted(store: FlowStore, name: str, sizes: bool) -> Iterator[dict[str, Any]]:
    from flowstore.record import Query, kinds

    storage = records_of(store, name)
    if sizes:
        totals: dict[str, list[int]] = {}
        for head in storage.records(Query(), payload=False):
            total = totals.setdefault(head.kind, [0, 0])
            total[0] += 1
            total[1] += head.headers.get("size", 0)
        for kind, (count, size) in sorted(totals.items()):
            yield {"storage": name, "kind": kind, "records": count, "size": size}
        return
    known = (
        *(kinds.RESULT, kinds.ERROR, kinds.RUN, kinds.CHECKPOINT, kinds.VARIABLE, kinds.CONFIGURATION),
        *(kinds.HISTORY, kinds.BLOB, kinds.CLAIM),
    )
    rest = storage.count(Query())
    for kind in known:
        count = storage.count(Query(kinds=(kind,)))
        rest -= count
        if count:
            yield {"storage": name, "kind": kind, "records": count, "size": None}
    if rest > 0:  # applications' kinds are counted together
        yield {"storage": name, "kind": None, "records": rest, "size": None}


_STORAGES = (
    output.Column("STORAGE", lambda row: row["storage"]),
    output.Column("ADAPTER", lambda row: row["adapter"]),
    output.Column("DEFAULT", lambda row: "yes" if row["default"] else ""),
    output.Column("TASKS", lambda row: len(row["tasks"]), right=True),
    output.Column("FLOWS", lambda row: len(row["flows"]), right=True),
    output.Column("WORKS ON", lambda row: ", ".join(row["works_on"])),
    output.Column("CAPABILITIES", lambda row: ", ".join(row["capabilities"])),
)
_ANSWERS = (
    output.Column("STORAGE", lambda row: row["storage"]),
    output.Column(
        "ANSWERS",
        lambda row: "yes" if row["answers"] else "no",
        style=lambda row: "green" if row["answers"] else "red",
    ),
    output.Column("CONNECT MS", lambda row: row["connect_ms"], right=True),
    output.Column("ANSWER MS", lambda row: row["answer_ms"], right=True),
)
_COUNTS = (
    output.Column("STORAGE", lambda row: row["storage"]),
    output.Column("KIND", lambda row: row["kind"] or "(others)"),
    output.Column("RECORDS", lambda row: row["records"], right=True),
)
_SIZE = output.Column("SIZE", lambda row: text.size_text(row["size"]), right=True)
