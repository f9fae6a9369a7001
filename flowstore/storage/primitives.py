"""What an adapter implements, a few operations on records, and what they share."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NoReturn

from flowstore.errors import ConflictError, FlowstoreError, StorageError
from flowstore.interrupts import is_interrupt
from flowstore.record import Page, Query, Record, Ref
from flowstore.storage.base import DataStorage


class Primitives(DataStorage):
    """What an adapter implements."""

    thread_safe: ClassVar[bool] = True

    sorts: ClassVar[bool] = False
    """Whether ``_scan`` lists by task id too. If not, each page of such a listing reads all selected records."""

    skips: ClassVar[bool] = False
    """Whether ``_scan`` leaves out ``Query.skip`` records. If not, they are read without payloads and dropped."""

    @abstractmethod
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        """Read one record; return None if it is missing.

        With ``payload=False`` the payload is ``b""`` and should not be read at all.
        """

    @abstractmethod
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        """Write one record in one atomic step; return its new revision.

        For a new record, that is ``record.revision``, a number that no record had before. A record that replaces
        another gets that one's revision plus one.

        Args:
            if_revision: ``None`` writes in any case; 0 only if no record is stored; n only over revision n. A record
                that has expired at ``now`` counts as missing. Its revision still grows when it is replaced.

        Raises:
            ConflictError: the condition does not hold; carries the current record, if any.
        """

    @abstractmethod
    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        """Delete one record in one atomic step; return whether it was stored.

        Raises:
            ConflictError: the record is at another revision; carries it.
        """

    @abstractmethod
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return up to ``limit`` selected records after the cursor, in the order that ``Query`` describes.

        A query has ``order="task_id"`` only if the adapter ``sorts``, ``skip`` only if it ``skips``, and ``where`` only
        if it is ``QueriesFields``. A cursor comes from a page of the same query.
        """

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Read several records, in the order of ``refs``. In a few round trips if the database can."""
        return [self._get(ref, True) for ref in refs]

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        """Write records of different references, each as ``_put`` without a condition; return their revisions.

        In a few round trips if the database can.
        """
        return [self._put(record, None, now) for record in records]

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        """Insert records of different references that don't exist yet; return a flag for each.

        In a few round trips if the database can.
        """
        return [self._add(record, now) for record in records]

    def _add(self, record: Record, now: float) -> bool:
        try:
            self._put(record, 0, now)
        except ConflictError:
            return False
        return True

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records; return how many were stored. In a few round trips if the database can."""
        return sum(self._delete(ref, None) for ref in refs)

    def _delete_seen(self, records: Sequence[Record]) -> int:
        """Delete records that are still at ``record.revision``; return how many.

        In a few round trips if the database can.
        """
        return sum(self._delete_one_seen(record) for record in records)

    def _delete_one_seen(self, record: Record) -> bool:
        try:
            return self._delete(record.ref, record.revision)
        except ConflictError:
            return False

    def _translate(self, exc: Exception) -> StorageError | None:
        """Return the flowstore error for a driver's exception, or None if the exception is a bug."""
        return None

    def now(self) -> float:
        """Return the time by which records expire, in seconds since the epoch.

        It is the server's time if the database has a server.
        """
        return time.time()

    def _time(self) -> float:
        """Return ``now()``; raise its errors as flowstore's."""
        try:
            return self.now()
        except Exception as exc:
            self._raise(exc)

    def _raise(self, exc: Exception) -> NoReturn:
        """Raise what an exception means to callers; interrupts and flowstore's errors are raised unchanged."""
        error = None if isinstance(exc, FlowstoreError) or is_interrupt(exc) else self._translate(exc)
        if error is None:
            raise exc
        raise error from exc
