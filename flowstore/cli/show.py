"""``flowstore show`` and ``flowstore cat``: print one result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from flowstore.cli import output, text
from flowstore.cli.root import source

if TYPE_CHECKING:
    from flowstore.record import Key, Record
    from flowstore.storage import DataStorage
    from flowstore.store import FlowStore

_PREVIEW: Final = 65_536  # bytes of the largest result that show prints


@click.command()
@click.argument("flow")
@click.argument("task")
@click.argument("id")
@click.option(
    "-o",
    "--output",
    "form",
    metavar="FORMAT",
    type=click.Choice(("table", "json")),
    default="table",
    show_default=True,
    help="Output format: table or json.",
)
def show(flow: str, task: str, id: str, form: str) -> None:
    """Show what is stored of a task.

    Prints its state, times, errors, and its result unless that is large.
    """
    store = source().open()
    facts = _facts(store, flow, task, id)
    if form == "json":
        output.print_json(facts)
        return
    console = output.console()
    from rich.text import Text

    errors, has_result = facts.pop("errors"), "result" in facts
    result, omitted = facts.pop("result", None), facts.pop("omitted", None)
    facts["size"] = text.size_text(facts["size"])
    for name in ("published_at", "started_at", "finished_at", "stored_at"):
        facts[name] = text.local_time(facts[name])
    facts["parents"] = "\n".join("  ".join(parent) for parent in facts["parents"][:10])
    for name, value in facts.items():
        if value not in (None, ""):
            style = output.state_style(value) if name == "state" else ""
            lines = [text.printable(line) for line in str(value).split("\n")]
            for label, line in zip([name.replace("_", " "), *[""] * len(lines)], lines, strict=False):
                console.print(Text.assemble((f"{label:<13}", "bold"), (line, style)), soft_wrap=True)
    for error in errors:
        label = f"error, attempt {error['attempt']}" if error["attempt"] else "error"
        console.print(Text.assemble((label, "bold"), "  ", (text.one_line(error["summary"]), "red")), soft_wrap=True)
    if has_result:
        console.print(Text("result", style="bold"))
        click.echo(output.to_json(result, indent=2))
    elif omitted:
        console.print(Text(f"The result is not shown: {omitted}"))


@click.command()
@click.argument("flow")
@click.argument("task")
@click.argument("id")
def cat(flow: str, task: str, id: str) -> None:
    """Print a result as JSON.

    Values that JSON has no type for are printed as they are stored: {"$type": "datetime", "value": "…"}.
    """
    from flowstore.encoding.serialize import dumps
    from flowstore.errors import NotFoundError
    from flowstore.storage import RecordStorage

    store = source().open()
    key, storage = _locate(store, flow, task, id)
    if not isinstance(storage, RecordStorage):
        payload, _ = dumps(store.retrieve(flow, task, id))
    else:
        try:
            record = storage.get(key)
        except NotFoundError as exc:
            error = store.retrieve_error(flow, task, id, default=None)
            if error is None:
                raise
            raise type(exc)(f"{exc}; the task failed with {error.failure.summary}") from exc
        payload = storage.pipeline.as_json(record)
    click.echo(text.printable_json(payload.decode()))


def _locate(store: FlowStore, flow: str, task: str, id: str) -> tuple[Key, DataStorage]:
    from flowstore.record import Key

    return Key(flow, store._router.stored_name(task), id), store.task_storage(flow, task)


def _facts(store: FlowStore, flow: str, task: str, id: str) -> dict[str, Any]:
    import json

    from flowstore.errors import SerializationError
    from flowstore.record import ERROR, RESULT, Query
    from flowstore.storage import RecordStorage

    key, storage = _locate(store, flow, task, id)
    if not isinstance(storage, RecordStorage):
        return {
            **_described(key, None, None),
            "storage": _storage_name(store, flow, task),
            "errors": [],
            "result": store.retrieve(flow, task, id),
        }
    query = Query((RESULT, ERROR), key.flow_name, key.task_name, key.task_id)
    records = list(storage.records(query, payload=False))
    if not records:
        storage.get(key)  # raises NotFoundError
    result = next((record for record in records if record.kind == RESULT), None)
    failed = [record for record in records if record.kind == ERROR]
    failed.sort(key=lambda record: (not record.ref.name, record.headers.get("attempt", 0)))
    facts = _described(key, result or failed[-1], _storage_name(store, flow, task))
    facts["errors"] = [
        {"attempt": error.headers.get("attempt"), "summary": error.failure.summary}
        for error in store.errors(flow, task, id)
    ]
    if result is not None:
        size = result.headers.get("full_size", result.headers.get("size", 0))
        try:
            if size > _PREVIEW:
                raise SerializationError(f"it is too large ({text.size_text(size)}). Print it with 'flowstore cat'.")
            facts["result"] = json.loads(storage.pipeline.as_json(storage.get(key)))
        except SerializationError as exc:
            facts["omitted"] = str(exc)
    return facts


def _described(key: Key, record: Record | None, storage: str | None) -> dict[str, Any]:
    headers = {} if record is None else record.headers
    facts: dict[str, Any] = {
        "flow": key.flow_name,
        "task": key.task_name,
        "id": key.task_id,
        "kind": None if record is None else record.kind,
        "storage": storage,
        "revision": None if record is None else record.revision,
        "run": headers.get("run_id"),
        "parents": headers.get("parents", []),
    }
    facts |= {name: headers.get(name) for name in ("state", "attempt", "worker", "serializer", "size")}
    for name in ("published_at", "started_at", "finished_at", "stored_at"):
        facts[name] = text.moment(headers.get(name))
    return facts


def _storage_name(store: FlowStore, flow: str, task: str) -> str | None:
    route = store._router.find_route(flow, task)
    return None if route is None else route.storage.name
