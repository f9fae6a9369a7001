"""The rows of records in a SQL database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flowstore.errors import CorruptError, InvalidKeyError
from flowstore.record import Key, Record, Ref
from flowstore.storages.shared.headers import corrupt, dump_headers, load_headers

if TYPE_CHECKING:
    from flowstore.storages.sql.database import Database

T = TypeVar("T")

_BATCH: Final = 500
_NAMES: Final = 6
"""How many of a row's values tell which record it is."""

REVISION_AT: Final = 8
"""Where a row has the revision that it gets where none is."""


def rows_of(database: Database, records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """Return the rows of a batch in an order in which they can be written."""
    rows = [row_of(database, record) for record in records]
    if database.locks_rows:
        # In one order everywhere: of two that write the same records, none waits for the other in a circle.
        rows.sort()
    return rows


def row_of(database: Database, record: Record) -> tuple[Any, ...]:
    """Return the values of a row in the order of the statements' parameters."""
    ref, key, as_key = record.ref, record.ref.key, database.key
    run_id, state = record.run_id, record.state
    return (
        ref.address,
        as_key(ref.kind),
        as_key(key.flow_name),
        as_key(key.task_name),
        as_key(key.task_id),
        as_key(ref.name),
        None if run_id is None else as_key(run_id),
        None if state is None else as_key(state),
        record.revision,
        record.stored_at,
        record.expires_at,
        dump_headers(record).decode(),
        *database.columns(record),
    )


def read_row(database: Database, row: Sequence[Any], ref: Ref | None) -> Record:
    """Return the record of a row.

    Args:
        row: kind, flow name, task name, task id, name, revision, headers, and the payload, if that was asked for.
        ref: the reference that it should have: if it has, the record's is this very object.

    Raises:
        CorruptError: it is none.
    """
    try:
        names = tuple(map(database.text, row[:5]))
        if ref is None or names != ref.names:
            # A row under somebody else's address keeps its own reference, which the caller's check refuses.
            kind, *key, name = names
            ref = Ref(kind, Key(*key), name)
    except InvalidKeyError as exc:
        raise CorruptError(f"a row of {database.target} has names that are none: {exc}") from exc
    revision, headers, *payload = row[5:]
    if type(revision) is not int:
        raise corrupt(ref, f"the row of {ref} has the revision {revision!r}")
    if payload and not isinstance(payload[0], bytes | bytearray | memoryview):
        raise corrupt(ref, f"the row of {ref} has neither a value nor a payload")
    if not isinstance(headers, str | bytes):
        raise corrupt(ref, f"the row of {ref} has no headers")
    return Record(ref, payload[0] if payload else b"", load_headers(headers, ref), revision)


def content_of(row: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a row that replace those of another one."""
    return (*row[_NAMES:REVISION_AT], *row[REVISION_AT + 1 :])


def batches(items: list[T]) -> list[list[T]]:
    """Cut what a statement is about into pieces of which each has few enough parameters."""
    return [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]


def dump_moment(expires_at: float, number: int) -> str:
    """Return the cursor of a place among what has expired."""
    return f"{expires_at!r} {number}"


def load_moment(cursor: str) -> tuple[float, int]:
    """Read a cursor that ``dump_moment`` has made."""
    expires_at, _, number = cursor.partition(" ")
    return float(expires_at), int(number)
