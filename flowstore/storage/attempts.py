"""Results of several executions of a task: the latest one's is kept."""

from __future__ import annotations

from flowstore.errors import ConflictError, NotFoundError, UnsupportedError
from flowstore.record import Record
from flowstore.storage.records import Records


class Attempts(Records):
    """Store results of tasks, which a redelivered message executes again."""

    def put_latest(self, record: Record, *, now: float | None = None) -> Record | None:
        """Store a record unless a later execution has already stored one.

        Returns the later one's record without its payload, or None if the record was stored.

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
        # Avoids sending a large payload in vain; the existing payload is not read.
        current = self._standing(record) if self._is_large(record) else None
        while current is None or not is_earlier_attempt(record, current):
            try:
                self.put(record, if_revision=0 if current is None else current.revision, now=now)
            except ConflictError as exc:
                current = exc.current  # each turn of this loop means that another writer succeeded
            except UnsupportedError:
                # A database without conditions: of two concurrent writes, either may win.
                current = self._standing(record)
                if current is None or not is_earlier_attempt(record, current):
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


def is_earlier_attempt(record: Record, other: Record) -> bool:
    """Return whether a record comes from an earlier execution of its task.

    A retry has a higher ``attempt``, whatever the clocks of the machines say. A redelivered message has the same
    ``attempt``, and started later.
    """
    began, other_began = record.headers.get("started_at"), other.headers.get("started_at")
    attempt, other_attempt = record.headers.get("attempt"), other.headers.get("attempt")
    if began is None or other_began is None or attempt is None or other_attempt is None:
        return False
    return bool(attempt <= other_attempt and began < other_began)
