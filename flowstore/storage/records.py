"""Records of a storage: one at a time, in batches, and by query."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, NoReturn

from flowstore.errors import ConflictError, CorruptError, ExpiredError, FlowstoreError, NotFoundError, StorageError
from flowstore.record import RESULT, Key, Page, Query, Record, Ref
from flowstore.storage.minimum import DataStorage

_PAGE = 500


class Records(DataStorage):
    """What an adapter implements, and the operations on records that follow from it."""

    thread_safe: ClassVar[bool] = True

    # What an adapter implements

    @abstractmethod
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        """Read one record, or ``None``. With ``payload=False`` the payload is ``b""`` and should not be read at all."""

    @abstractmethod
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        """Write one record in one atomic step and return its new revision.

        Args:
            if_revision: ``None`` writes in any case; 0 only where no record is; n only over revision n. A record that
                has expired ``now`` counts as none here; the revision grows all the same when it is replaced.

        Raises:
            ConflictError: the condition does not hold; carries the current record if there is one.
        """

    @abstractmethod
    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        """Delete one record in one atomic step; tell whether there was one.

        Raises:
            ConflictError: a record is there, at another revision; carries it.
        """

    @abstractmethod
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return up to ``limit`` selected records that follow the cursor, in the order that ``Query`` tells."""

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Read several records; the answer has their order. A few round trips where the database can."""
        return [self._get(ref, True) for ref in refs]

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        """Write several records of different references, each as ``_put`` does unconditionally; return the revisions.

        A few round trips where the database can.
        """
        return [self._put(record, None, now) for record in records]

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records; return how many there were. A few round trips where the database can."""
        return sum(self._delete(ref, None) for ref in refs)

    def _count(self, query: Query) -> int:
        """Count the selected records; without reading them where the database can."""
        return sum(1 for _ in self._pages(query, False))

    def _translate(self, exc: Exception) -> StorageError | None:
        """Return the flowstore error that a driver's exception means, or ``None`` for one that is a bug."""
        return None

    # Records

    def now(self) -> float:
        """Return the time by which records expire, in seconds since the epoch: the server's, where there is one."""
        return time.time()

    def get(self, key: Key, kind: str = RESULT, name: str = "", *, payload: bool = True) -> Record:
        """Return one record.

        Raises:
            NotFoundError, ExpiredError, CorruptError, UnreachableError
        """
        ref = Ref(kind, key, name)
        try:
            record = self._get(ref, payload)
        except Exception as exc:
            self._raise(exc)
        if record is None:
            raise NotFoundError(f"no {ref} is stored")
        if record.expires_at is not None and record.has_expired(self.now()):
            raise ExpiredError(f"{ref} has expired")
        return _checked(ref, record)

    def get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Return several records in the order of their references, ``None`` for each that is not there or expired."""
        try:
            records = self._get_many(refs)
        except Exception as exc:
            self._raise(exc)
        now = self.now()
        return [
            None if record is None or record.has_expired(now) else _checked(ref, record)
            for ref, record in zip(refs, records, strict=True)
        ]

    def put(self, record: Record, *, if_revision: int | None = None) -> Record:
        """Store a record and return it with its new revision; the one given is not changed.

        Args:
            if_revision: ``None`` replaces what is there; 0 stores only where nothing is; n replaces only revision n.

        Raises:
            ConflictError: the condition does not hold; ``current`` is the record that is there. A record that carries
                this one's own token counts as stored: it was written by an earlier try whose answer was lost.
        """
        try:
            return record.at(self._put(record, if_revision, self.now()))
        except ConflictError as exc:
            token = record.headers.get("token")
            if token is not None and exc.current is not None and exc.current.headers.get("token") == token:
                return record.at(exc.current.revision)
            raise
        except Exception as exc:
            self._raise(exc)

    def put_many(self, records: Sequence[Record]) -> list[Record]:
        """Store several records, replacing what is there, and return them with their new revisions.

        Each is stored as a whole or not at all. If an error is raised, some may have been stored; storing all of them
        again is harmless.

        Raises:
            ValueError: two of them have the same reference.
        """
        if len({record.ref for record in records}) < len(records):
            raise ValueError("two of the records have the same reference: which one should stay is not known")
        try:
            revisions = self._put_many(records, self.now())
        except Exception as exc:
            self._raise(exc)
        return [record.at(revision) for record, revision in zip(records, revisions, strict=True)]

    def delete(self, key: Key, kind: str = RESULT, name: str = "", *, if_revision: int | None = None) -> bool:
        """Delete one record; tell whether there was one.

        Raises:
            ConflictError: it is not at ``if_revision``; ``current`` is the record that is there.
        """
        try:
            return self._delete(Ref(kind, key, name), if_revision)
        except Exception as exc:
            self._raise(exc)

    def delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records; return how many there were."""
        try:
            return self._delete_many(refs)
        except Exception as exc:
            self._raise(exc)

    def count(self, query: Query) -> int:
        """Return how many records a query selects."""
        try:
            return self._count(self._dated(query))
        except Exception as exc:
            self._raise(exc)

    def scan(self, query: Query, *, limit: int = 100, cursor: str | None = None, payload: bool = True) -> Page:
        """Return one page of the records that a query selects; pass ``page.cursor`` on to get the next one."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        try:
            return self._scan(self._dated(query), cursor, limit, payload)
        except Exception as exc:
            self._raise(exc)

    def records(self, query: Query, *, payload: bool = True) -> Iterator[Record]:
        """Iterate over all records that a query selects, reading a page at a time."""
        try:
            yield from self._pages(self._dated(query), payload)
        except Exception as exc:
            self._raise(exc)

    def _pages(self, query: Query, payload: bool) -> Iterator[Record]:
        cursor: str | None = None
        while True:
            page = self._scan(query, cursor, _PAGE, payload)
            yield from page.records
            cursor = page.cursor
            if cursor is None:
                return

    def _dated(self, query: Query) -> Query:
        if query.live_at is None and query.expired_at is None:
            return replace(query, live_at=self.now())
        return query

    def _raise(self, exc: Exception) -> NoReturn:
        error = None if isinstance(exc, FlowstoreError) else self._translate(exc)
        if error is None:
            raise exc
        raise error from exc


def _checked(ref: Ref, record: Record) -> Record:
    # A client library that mixes up two answers, or a hash collision, must not hand out somebody else's result.
    if record.ref != ref:
        raise CorruptError(f"asked for {ref}, the storage answered with {record.ref}")
    return record
