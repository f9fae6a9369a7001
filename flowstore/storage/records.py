"""Records of a storage: one at a time, in batches, and by query."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, NoReturn

from flowstore.errors import (
    ConflictError,
    CorruptError,
    ExpiredError,
    FlowstoreError,
    NotFoundError,
    ResultTooLargeError,
    StorageError,
)
from flowstore.interrupts import is_interrupt
from flowstore.record import RESULT, Damaged, Key, Page, Query, Record, Ref, pages
from flowstore.record.damage import tell
from flowstore.storage.capabilities import QueriesFields, require
from flowstore.storage.minimum import DataStorage
from flowstore.storage.revisions import new_revision
from flowstore.storage.sorting import sorted_page

_PAGE = 500


class Records(DataStorage):
    """What an adapter implements, and the operations on records that follow from it."""

    thread_safe: ClassVar[bool] = True

    sorts: ClassVar[bool] = False
    """Whether ``_scan`` lists by task id too; if not, that looks at all selected records for each page."""

    skips: ClassVar[bool] = False
    """Whether ``_scan`` leaves out ``Query.skip`` records; if not, these are read, without payloads, and dropped."""

    max_result_size: int | None = None
    """The most bytes that the payload of a result may have; set from ``max_result_size`` of the storage's entry."""

    # What an adapter implements

    @abstractmethod
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        """Read one record, or ``None``. With ``payload=False`` the payload is ``b""`` and should not be read at all."""

    @abstractmethod
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        """Write one record in one atomic step and return its new revision.

        Where nothing is stored, that is ``record.revision``, a number that no record had before; over another record,
        one more than that one's.

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
        """Return up to ``limit`` selected records that follow the cursor, in the order that ``Query`` tells.

        It is asked for ``order="task_id"`` only if the adapter ``sorts``, and to skip only if it ``skips``, for
        ``where`` only if it is ``QueriesFields``. A cursor comes from a page of the same query.
        """

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Read several records; the answer has their order. A few round trips where the database can."""
        return [self._get(ref, True) for ref in refs]

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        """Write several records of different references, each as ``_put`` does unconditionally; return the revisions.

        A few round trips where the database can.
        """
        return [self._put(record, None, now) for record in records]

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        """Write several records of different references where none is, as ``_put`` does with 0; tell of each whether.

        A few round trips where the database can.
        """
        return [self._adds(record, now) for record in records]

    def _adds(self, record: Record, now: float) -> bool:
        try:
            self._put(record, 0, now)
        except ConflictError:
            return False
        return True

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records; return how many there were. A few round trips where the database can."""
        return sum(self._delete(ref, None) for ref in refs)

    def _delete_seen(self, records: Sequence[Record]) -> int:
        """Delete several records, each only at its ``record.revision``; return how many that were.

        A few round trips where the database can.
        """
        return sum(self._deletes(record) for record in records)

    def _deletes(self, record: Record) -> bool:
        try:
            return self._delete(record.ref, record.revision)
        except ConflictError:
            return False

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
        if record.expires_at is not None and record.has_expired(self._time()):
            raise ExpiredError(f"{ref} has expired")
        return _checked(ref, record)

    def get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Return several records in the order of their references, ``None`` for each that is not there or expired."""
        try:
            records = self._get_many(refs)
        except Exception as exc:
            self._raise(exc)
        now = self._time()
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
            ResultTooLargeError: it is a result larger than ``max_result_size``.
        """
        return self._store(record.at(new_revision()), if_revision)

    def _store(self, record: Record, if_revision: int | None) -> Record:
        """Store a record as ``put`` does; its revision is the one that it gets where nothing is."""
        if self.max_result_size is not None:
            self.check_size(record)
        try:
            return record.at(self._put(record, if_revision, self.now()))
        except ConflictError as exc:
            if exc.current is not None and record.is_same_write(exc.current):
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
            ResultTooLargeError: one is a result larger than ``max_result_size``; nothing was stored.
        """
        self._check_batch(records)
        return self._store_many([record.at(new_revision()) for record in records])

    def _store_many(self, records: Sequence[Record]) -> list[Record]:
        """Store records as ``put_many`` does; the revision of each is the one that it gets where nothing is."""
        try:
            revisions = self._put_many(records, self.now())
        except Exception as exc:
            self._raise(exc)
        return [record.at(revision) for record, revision in zip(records, revisions, strict=True)]

    def add_many(self, records: Sequence[Record], *, as_they_are: bool = False) -> list[Record | None]:
        """Store several records where nothing is, and return in their order what was there, ``None`` for each stored.

        A record that carries the given one's own token counts as stored. Otherwise as ``put_many``.

        Args:
            as_they_are: the records are copies, and keep the revisions that they have.
        """
        self._check_batch(records)
        standing: dict[Ref, Record] = {}
        missing = [record if as_they_are and record.revision else record.at(new_revision()) for record in records]
        while missing:
            try:
                added = self._add_many(missing, self.now())
            except Exception as exc:
                self._raise(exc)
            refused = [record for record, is_added in zip(missing, added, strict=True) if not is_added]
            if not refused:
                break
            found = self.get_many([record.ref for record in refused])
            # What has been deleted, or has expired, between the two looks at it can be stored now.
            missing = [record for record, current in zip(refused, found, strict=True) if current is None]
            standing |= {current.ref: current for current in found if current is not None}
        return [
            None if current is None or record.is_same_write(current) else current
            for record, current in ((record, standing.get(record.ref)) for record in records)
        ]

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

    def delete_seen(self, records: Sequence[Record]) -> int:
        """Delete several records that were read; return how many.

        What has been replaced since, or deleted and stored anew, stays.
        """
        try:
            return self._delete_seen(records)
        except Exception as exc:
            self._raise(exc)

    def count(self, query: Query) -> int:
        """Return how many records a query selects."""
        try:
            return self._count(replace(self._dated(query), order="stored", skip=0))
        except Exception as exc:
            self._raise(exc)

    def scan(self, query: Query, *, limit: int = 100, cursor: str | None = None, payload: bool = True) -> Page:
        """Return one page of the records that a query selects; pass ``page.cursor`` on to get the next one.

        What can't be read is passed over and told of, here and in all listings; it is in ``page.damaged``.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        try:
            page = self._page(self._dated(query), cursor, limit, payload)
        except Exception as exc:
            self._raise(exc)
        for one in page.damaged:
            tell(one.error)
        return page

    def records(self, query: Query, *, payload: bool = True) -> Iterator[Record]:
        """Iterate over all records that a query selects, reading a page at a time."""
        try:
            yield from self._pages(self._dated(query), payload)
        except Exception as exc:
            self._raise(exc)

    def ids(self, query: Query) -> Iterator[Ref]:
        """Iterate over the references of all records that a query selects; no payload is read."""
        for record in self.records(query, payload=False):
            yield record.ref

    def _pages(self, query: Query, payload: bool) -> Iterator[Record]:
        told: set[str] = set()
        for page in pages(lambda cursor: self._page(query, cursor, _PAGE, payload)):
            # Some adapters meet the same ones in each page.
            for one in page.damaged:
                if str(one.error) not in told:
                    told.add(str(one.error))
                    tell(one.error)
            yield from page.records

    def _page(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return a page as ``_scan`` does, whatever the adapter leaves to this class."""
        return selected(query, self._scanned(query, cursor, limit, payload))

    def _scanned(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.skip and cursor is not None:
            query = replace(query, skip=0)
        if query.order == "task_id" and not self.sorts:
            heads = self._pages(replace(query, order="stored", skip=0), False)
            return sorted_page(query, cursor, limit, heads, self._read_each if payload else None)
        if query.skip and not self.skips:
            skip, query = query.skip, replace(query, skip=0)
            while skip:
                passed = self._page(query, cursor, min(skip, _PAGE), False)
                cursor, skip = passed.cursor, skip - len(passed.records)
                if cursor is None:
                    return Page([])
        return self._scan(query, cursor, limit, payload)

    def _read_each(self, refs: Sequence[Ref]) -> tuple[list[Record], list[Damaged]]:
        """Read several records for a listing; return those that are there, and those that can't be read."""
        try:
            return [record for record in self._get_many(refs) if record is not None], []
        except CorruptError as exc:
            if len(refs) == 1:
                exc.ref = refs[0]
                return [], [Damaged(exc)]
        each = [self._read_each([ref]) for ref in refs]
        return [one for records, _ in each for one in records], [one for _, damaged in each for one in damaged]

    def _dated(self, query: Query) -> Query:
        if query.where:
            require(self, QueriesFields)
        if query.live_at is None and query.expired_at is None:
            return replace(query, live_at=self.now())
        return query

    def _check_batch(self, records: Sequence[Record]) -> None:
        if len({record.ref.address for record in records}) < len(records):
            raise ValueError("two of the records have the same reference: which one should stay is not known")
        if self.max_result_size is not None:
            for record in records:
                self.check_size(record)

    def check_size(self, record: Record) -> None:
        """Refuse a result that is larger than ``max_result_size``.

        Raises:
            ResultTooLargeError: it is.
        """
        size, limit = len(record.payload), self.max_result_size
        if limit is not None and size > limit and record.kind == RESULT:
            raise ResultTooLargeError(
                f"{record.ref} takes {size} bytes; max_result_size of its storage is {limit}: nothing was stored"
            )

    def _time(self) -> float:
        """Return what ``now`` tells; what it raises is flowstore's."""
        try:
            return self.now()
        except Exception as exc:
            self._raise(exc)

    def _raise(self, exc: Exception) -> NoReturn:
        error = None if isinstance(exc, FlowstoreError) or is_interrupt(exc) else self._translate(exc)
        if error is None:
            raise exc
        raise error from exc


def selected(query: Query, page: Page) -> Page:
    """Return a page without the damaged records that are certainly not among what a query selects."""
    if not page.damaged:
        return page
    damaged = [one for one in page.damaged if one.error.ref is None or query.names(one.error.ref)]
    return Page(page.records, page.cursor, damaged)


def _checked(ref: Ref, record: Record) -> Record:
    # A client library that mixes up two answers, or a hash collision, must not hand out somebody else's result.
    if record.ref is not ref and record.ref != ref:
        raise CorruptError(f"asked for {ref}, the storage answered with {record.ref}")
    return record
