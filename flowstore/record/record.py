"""What is stored: keys, references to records, and records."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from flowstore.errors import CorruptError, InvalidKeyError
from flowstore.record.querying import (
    Place,
    Scalar,
    check_fields,
    check_pattern,
    check_text,
    matches_fields,
    matches_pattern,
)

FORMAT: Final = 1
"""Version of the record envelope. A reader refuses a newer one."""

RESULT: Final = "result"
ERROR: Final = "error"
RUN: Final = "run"
CHECKPOINT: Final = "checkpoint"
VARIABLE: Final = "variable"
CONFIGURATION: Final = "configuration"
HISTORY: Final = "history"
BLOB: Final = "blob"
PIECE: Final = "piece"
CLAIM: Final = "claim"

JSON: Final = "application/json"
"""Content type of a payload that any JSON reader understands, so that an adapter may store it readable."""

_LENGTHS = struct.Struct(">5Q")

_survives_clear: dict[str, bool] = {
    RESULT: False,
    ERROR: False,
    RUN: False,
    CHECKPOINT: False,
    BLOB: False,
    PIECE: False,
    CLAIM: False,
    VARIABLE: True,
    CONFIGURATION: True,
    HISTORY: True,
}


def register_kind(name: str, *, survives_clear: bool = False) -> str:
    """Make a kind of record known, and say what ``clear`` does with it; return its name.

    A kind may be used without: it is cleared then. Registering it again in the same way changes nothing. To be called
    when a module is imported, in each process that clears or cleans up.

    Raises:
        InvalidKeyError: the name is not a string, or is empty.
        ValueError: the kind is known already, and ``clear`` does otherwise with it.
    """
    check_text(name, "kind")
    if not name:
        raise InvalidKeyError("a kind needs a name")
    if _survives_clear.setdefault(name, survives_clear) != survives_clear:
        does = "keeps" if not survives_clear else "deletes"
        raise ValueError(f"the kind {name!r} is known already, and clear() {does} it")
    return name


def known_kinds() -> tuple[str, ...]:
    """Return the kinds of flowstore's own, and those that were registered in this process."""
    return tuple(_survives_clear)


def survives_clear(kind: str) -> bool:
    """Tell whether ``clear``, and a cleanup by age that names no kinds, leave a kind alone."""
    return _survives_clear.get(kind, False)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Name a task of a flow: three strings, kept exactly as given.

    No part is normalized, trimmed or split: ``Key("a:b", "c", "1")`` and ``Key("a", "b:c", "1")`` are different keys.

    Raises:
        InvalidKeyError: a part is not a string, or holds a lone surrogate.
    """

    flow_name: str
    task_name: str
    task_id: str

    def __post_init__(self) -> None:
        try:
            for part in (self.flow_name, self.task_name, self.task_id):
                str.encode(part)
        except (TypeError, UnicodeEncodeError):
            check_text(self.flow_name, "flow_name")
            check_text(self.task_name, "task_name")
            check_text(self.task_id, "task_id")

    def __str__(self) -> str:
        return f"{self.flow_name!r} / {self.task_name!r} / {self.task_id!r}"


@dataclass(frozen=True, slots=True)
class Ref:
    """Point to one record: its kind, its key, and a name where a key has several records of that kind.

    A result has the name ``""``; the error that ended a task too, while the error of an attempt that was retried is
    named by the attempt's number.
    """

    kind: str
    key: Key
    name: str = ""
    address: bytes = field(init=False, repr=False, compare=False)
    """SHA-256 over the parts' lengths and the parts: short, safe in any database, different for any two references."""

    def __post_init__(self) -> None:
        # Made for each operation: part by part in a row takes a third less time than in a loop.
        key = self.key
        try:
            kind, name = str.encode(self.kind), str.encode(self.name)
        except (TypeError, UnicodeEncodeError):
            check_text(self.kind, "kind")
            check_text(self.name, "name")
            raise
        flow, task, task_id = key.flow_name.encode(), key.task_name.encode(), key.task_id.encode()
        lengths = _LENGTHS.pack(len(kind), len(flow), len(task), len(task_id), len(name))
        address = hashlib.sha256(lengths + kind + flow + task + task_id + name).digest()
        object.__setattr__(self, "address", address)

    def __hash__(self) -> int:
        return hash(self.address)

    @property
    def names(self) -> tuple[str, str, str, str, str]:
        """The kind, the parts of the key, and the name."""
        key = self.key
        return self.kind, key.flow_name, key.task_name, key.task_id, self.name

    @property
    def place(self) -> Place:
        """Where the record comes in the order by task id."""
        return self.key.task_id, self.address

    def __str__(self) -> str:
        return f"{self.kind} {self.key}" + (f" [{self.name}]" if self.name else "")


@dataclass(frozen=True, slots=True)
class Record:
    """A stored thing: where it belongs, what it is, and its bytes.

    Attributes:
        ref: kind, key and name.
        payload: the encoded value. ``headers["content_type"]`` tells whether it is JSON text.
        headers: JSON-able facts about it; see docs/records.md for the names that flowstore sets. Unknown ones are kept.
        revision: 0 before it is stored; then a number that no record under this reference had before, and one more with
            each replacement.
    """

    ref: Ref
    payload: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 0

    @property
    def key(self) -> Key:
        return self.ref.key

    @property
    def kind(self) -> str:
        return self.ref.kind

    @property
    def run_id(self) -> str | None:
        return self.headers.get("run_id")

    @property
    def state(self) -> str | None:
        return self.headers.get("state")

    @property
    def stored_at(self) -> float:
        stored_at: float = self.headers.get("stored_at", 0.0)
        return stored_at

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch; ``None`` never expires."""
        return self.headers.get("expires_at")

    def has_expired(self, now: float) -> bool:
        """Tell whether the record counts as gone at that time."""
        expires_at = self.expires_at
        return expires_at is not None and expires_at <= now

    @property
    def is_json(self) -> bool:
        return self.headers.get("content_type") == JSON

    def is_same_write(self, current: Record) -> bool:
        """Tell whether what is stored was written by an earlier try to store this record, whose answer was lost."""
        token = self.headers.get("token")
        return token is not None and current.headers.get("token") == token

    def at(self, revision: int) -> Record:
        """Return this record with that revision."""
        return Record(self.ref, self.payload, self.headers, revision)


@dataclass(frozen=True, slots=True)
class Query:
    """Select records; what is ``None`` is not asked for.

    The order is that of first storing, oldest first, unless ``descending``.

    Attributes:
        kinds, task_ids, states: any of these; an empty tuple selects nothing.
            Without ``kinds``, every kind but ``PIECE``, the parts of blobs and large values.
        stored_from, stored_before: seconds since the epoch; the first counts, the second does not.
        live_at: what has not expired at that time; a storage sets it to now where neither this nor the next is given.
        expired_at: what has expired at that time.
        pattern: task ids like this: ``*`` stands for any characters or none, ``?`` for any one, everything else for
            itself. Up to 1,000 characters.
        where: payloads that are JSON objects with these values: a field is named by its keys with dots between, its
            value is a string, number, boolean or ``None``. Only where ``isinstance(storage, QueriesFields)``.
        order: by first storing, or by task id: by its code points, then by ``Ref.address``.
        skip: how many of the selected records are left out at the beginning, where no cursor is given; a count, and
            what is deleted by query, includes them.

    Raises:
        InvalidKeyError: the pattern, or the name of a field, is none.
        ValueError: ``where`` has a value of another kind, ``skip`` is negative, or there is no such order.
    """

    kinds: tuple[str, ...] | None = None
    flow_name: str | None = None
    task_name: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    task_ids: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = None
    stored_from: float | None = None
    stored_before: float | None = None
    live_at: float | None = None
    expired_at: float | None = None
    descending: bool = False
    pattern: str | None = None
    where: Mapping[str, Scalar] | None = field(default=None, hash=False)
    order: Literal["stored", "task_id"] = "stored"
    skip: int = 0

    def __post_init__(self) -> None:
        if self.pattern is not None:
            check_pattern(self.pattern)
        if self.where is not None:
            check_fields(self.where)
        if self.order not in ("stored", "task_id"):
            raise ValueError(f"order must be 'stored' or 'task_id', not {self.order!r}")
        if self.skip < 0:
            raise ValueError(f"skip must be at least 0, not {self.skip}")

    def names(self, ref: Ref) -> bool:
        """Tell whether a record of that reference may be selected: so far as reference, and not headers, tell."""
        key = ref.key
        return (
            (ref.kind != PIECE if self.kinds is None else ref.kind in self.kinds)
            and (self.flow_name is None or key.flow_name == self.flow_name)
            and (self.task_name is None or key.task_name == self.task_name)
            and (self.task_id is None or key.task_id == self.task_id)
            and (self.task_ids is None or key.task_id in self.task_ids)
            and (self.pattern is None or matches_pattern(key.task_id, self.pattern))
        )

    def matches(self, record: Record) -> bool:
        """Tell whether the record is among those selected; with ``where``, it has to have its payload."""
        return (
            self.names(record.ref)
            and (self.run_id is None or record.run_id == self.run_id)
            and (self.states is None or record.state in self.states)
            and (self.stored_from is None or record.stored_at >= self.stored_from)
            and (self.stored_before is None or record.stored_at < self.stored_before)
            and (self.live_at is None or not record.has_expired(self.live_at))
            and (self.expired_at is None or record.has_expired(self.expired_at))
            and (not self.where or (record.is_json and matches_fields(record.payload, self.where)))
        )


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that a listing met and could not read.

    Attributes:
        error: tells where it is and what is wrong; its ``ref`` is the record's reference, where that could be read.
        kind: its kind, where that is known without.
        delete: deletes it and tells whether it was there; ``None`` where its reference is enough for that.
    """

    error: CorruptError
    kind: str | None = None
    delete: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the records that a query selects, and where to go on.

    Attributes:
        cursor: an opaque string to pass to the next call, or ``None`` after the last page.
        damaged: what was passed over, because it can't be read: it may be among what the query selects, or not.
    """

    records: list[Record]
    cursor: str | None = None
    damaged: Sequence[Damaged] = ()


def pages(read: Callable[[str | None], Page], cursor: str | None = None) -> Iterator[Page]:
    """Iterate over pages to the last one.

    Args:
        read: returns the page that follows a cursor, or the first one.
        cursor: where to begin.
    """
    while True:
        page = read(cursor)
        yield page
        cursor = page.cursor
        if cursor is None:
            return
