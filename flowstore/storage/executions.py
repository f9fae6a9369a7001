"""What executions of one task store: the latest one's stays, in whatever order they end."""

from __future__ import annotations

from flowstore.errors import ConflictError, NotFoundError, UnsupportedError
from flowstore.record import Record
from flowstore.storage.records import Records


class Executions(Records):
    """The operation by which tasks store: a message that is delivered again has its task executed again."""

    def put_latest(self, record: Record, *, now: float | None = None) -> Record | None:
        """Store what an execution gave, unless a later one has stored; return that one's record, without payload.

        The headers ``attempt`` and ``started_at`` of both decide which execution is earlier. The condition holds when
        the record is written. If nothing is stored yet, that is one round trip.

        Args:
            now: as in ``put``.

        Raises:
            as ``put``.
        """
        if "started_at" not in record.headers:
            self.put(record, now=now)
            return None
        # A large payload is not sent in vain, nor the existing one read.
        current = self._standing(record) if self._is_large(record) else None
        while current is None or not is_earlier(record, current):
            try:
                self.put(record, if_revision=0 if current is None else current.revision, now=now)
            except ConflictError as exc:
                current = exc.current  # each turn of this loop means that another writer succeeded
            except UnsupportedError:
                # A database without conditions: of two that store at once, either may stay.
                current = self._standing(record)
                if current is None or not is_earlier(record, current):
                    self.put(record, now=now)
                    return None
            else:
                return None
        return Record(current.ref, b"", current.headers, current.revision)

    def _standing(self, record: Record) -> Record | None:
        try:
            return self.get(record.key, record.kind, record.ref.name, payload=False)
        except NotFoundError:
            return None


def is_earlier(record: Record, other: Record) -> bool:
    """Return whether a record is of an earlier execution of its task than another one.

    A retry has a higher ``attempt``, whatever the clocks of the machines say. What was delivered again has the same
    one, and began later.
    """
    began, other_began = record.headers.get("started_at"), other.headers.get("started_at")
    attempt, other_attempt = record.headers.get("attempt"), other.headers.get("attempt")
    if began is None or other_began is None or attempt is None or other_attempt is None:
        return False
    return bool(attempt <= other_attempt and began < other_began)
