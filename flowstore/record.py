"""What is stored: keys, references to records, and records."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flowstore.errors import InvalidKeyError

FORMAT: Final = 1
"""Version of the record envelope. A reader refuses a newer one."""

RESULT: Final = "result"
ERROR: Final = "error"
RUN: Final = "run"

JSON: Final = "application/json"
"""Content type of a payload that any JSON reader understands, so that an adapter may store it readable."""

_LENGTHS = struct.Struct(">5Q")


def _checked(part: object, what: str) -> None:
    if not isinstance(part, str):
        raise InvalidKeyError(f"{what} must be a string, not {type(part).__name__}: {part!r}")
    try:
        part.encode()
    except UnicodeEncodeError as exc:
        raise InvalidKeyError(
            f"{what} {part!r} holds a lone surrogate at {exc.start}, which no database can keep"
        ) from exc


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
        _checked(self.flow_name, "flow_name")
        _checked(self.task_name, "task_name")
        _checked(self.task_id, "task_id")

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
        _checked(self.kind, "kind")
        _checked(self.name, "name")
        key = self.key
        parts = [part.encode() for part in (self.kind, key.flow_name, key.task_name, key.task_id, self.name)]
        packed = b"".join((_LENGTHS.pack(*map(len, parts)), *parts))
        object.__setattr__(self, "address", hashlib.sha256(packed).digest())

    def __str__(self) -> str:
        return f"{self.kind} {self.key}" + (f" [{self.name}]" if self.name else "")


@dataclass(frozen=True, slots=True)
class Record:
    """A stored thing: where it belongs, what it is, and its bytes.

    Attributes:
        ref: kind, key and name.
        payload: the encoded value. ``headers["content_type"]`` tells whether it is JSON text.
        headers: JSON-able facts about it; see docs/records.md for the names that flowstore sets. Unknown ones are kept.
        revision: 0 before it is stored, then 1, and one more with each replacement.
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

    def at(self, revision: int) -> Record:
        """Return this record with that revision."""
        return Record(self.ref, self.payload, self.headers, revision)


@dataclass(frozen=True, slots=True)
class Query:
    """Select records; what is ``None`` is not asked for.

    The order is that of first storing, oldest first, unless ``descending``.

    Attributes:
        kinds, task_ids, states: any of these; an empty tuple selects nothing.
        stored_from, stored_before: seconds since the epoch; the first counts, the second does not.
        live_at: what has not expired at that time; a storage sets it to now where neither this nor the next is given.
        expired_at: what has expired at that time.
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

    def matches(self, record: Record) -> bool:
        """Tell whether the record is among those selected."""
        key = record.ref.key
        return (
            (self.kinds is None or record.ref.kind in self.kinds)
            and (self.flow_name is None or key.flow_name == self.flow_name)
            and (self.task_name is None or key.task_name == self.task_name)
            and (self.task_id is None or key.task_id == self.task_id)
            and (self.run_id is None or record.run_id == self.run_id)
            and (self.task_ids is None or key.task_id in self.task_ids)
            and (self.states is None or record.state in self.states)
            and (self.stored_from is None or record.stored_at >= self.stored_from)
            and (self.stored_before is None or record.stored_at < self.stored_before)
            and (self.live_at is None or not record.has_expired(self.live_at))
            and (self.expired_at is None or record.has_expired(self.expired_at))
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the records that a query selects, and where to go on.

    ``cursor`` is an opaque string to pass to the next call, or ``None`` after the last page.
    """

    records: list[Record]
    cursor: str | None = None
