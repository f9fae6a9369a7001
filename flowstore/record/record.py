"""Records: what is stored under a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flowstore.record.keys import Key, Ref

FORMAT: Final = 1
"""Version of the record format. Readers refuse other versions."""

JSON: Final = "application/json"
"""Content type of payloads that any JSON parser reads, so that an adapter may store them in readable form."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record: its reference, payload, headers and revision.

    Attributes:
        ref: kind, key and name.
        payload: the encoded value; JSON text if ``headers["content_type"]`` says so.
        headers: JSON-serializable metadata. docs/records.md lists the names that flowstore sets; others are kept.
        revision: 0 before the record is stored. A new record gets a number that no record under this reference had
            before; each replacement adds one.
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
        """Seconds since the epoch, or None if the record never expires."""
        return self.headers.get("expires_at")

    def has_expired(self, now: float) -> bool:
        """Return whether the record has expired at the given time."""
        expires_at = self.expires_at
        return expires_at is not None and expires_at <= now

    @property
    def is_json(self) -> bool:
        return self.headers.get("content_type") == JSON

    def is_same_write(self, current: Record) -> bool:
        """Return whether an earlier try to store this record wrote ``current``.

        That happens when the write succeeded and its answer was lost.
        """
        token = self.headers.get("token")
        return token is not None and current.headers.get("token") == token

    def at(self, revision: int) -> Record:
        """Return a copy of this record with the given revision."""
        return Record(self.ref, self.payload, self.headers, revision)
