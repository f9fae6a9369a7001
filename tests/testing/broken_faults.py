"""Adapters of records, each with one mistake that shows when the server is away, or two come at once."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from flowstore.errors import ConflictError, CorruptError, OutcomeUnknownError, StorageError, UnreachableError
from flowstore.record import PIECE, Page, Query, Record, Ref
from tests.testing.wire import Link, WireStorage


class DriverError(Exception):
    """What a driver raises."""


class AddManySwallows(WireStorage):
    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        try:
            return super()._add_many(records, now)
        except UnreachableError:
            return [True] * len(records)


class PurgeSwallows(WireStorage):
    def purge(self, kind: str | None = None) -> int:
        try:
            return super().purge(kind)
        except UnreachableError:
            return 0


class BlobPieceSwallows(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        try:
            return super()._put(record, if_revision, now)
        except UnreachableError:
            if record.kind != PIECE:
                raise
            return 1


class LeaksFromAddMany(WireStorage):
    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        try:
            return super()._add_many(records, now)
        except UnreachableError as exc:
            raise DriverError(str(exc)) from None


class LeaksFromConditionalDelete(WireStorage):
    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        try:
            return super()._delete(ref, if_revision)
        except UnreachableError as exc:
            if if_revision is None:
                raise
            raise DriverError(str(exc)) from None


class LeaksFromPurge(WireStorage):
    def _purge(self) -> int:
        try:
            return super()._purge()
        except UnreachableError as exc:
            raise DriverError(str(exc)) from None


class LeaksFromPatternScan(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        try:
            return super()._scan(query, cursor, limit, payload)
        except UnreachableError as exc:
            if query.pattern is None:
                raise
            raise DriverError(str(exc)) from None


class LeaksFromBlobRead(WireStorage):
    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        try:
            yield from super()._read_content(ref, generation, pieces)
        except UnreachableError as exc:
            raise DriverError(str(exc)) from None

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        try:
            return super()._get(ref, payload)
        except UnreachableError as exc:
            if ref.kind != "blob":
                raise
            raise DriverError(str(exc)) from None


class ConditionalDeleteRace(WireStorage):
    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        if if_revision is not None:
            found = self._get(ref, True)
            if found is None:
                return False
            if found.revision != if_revision:
                raise ConflictError("another revision", found)
            super()._delete(ref, None)
            return True
        return super()._delete(ref, None)


class DriverRepeats(WireStorage):
    def _call(self, operation: str, *arguments: Any) -> Any:
        try:
            return super()._call(operation, *arguments)
        except OutcomeUnknownError:
            return super()._call(operation, *arguments)


class LostIsNotDone(WireStorage):
    def _broken(self, thread: int, operation: str) -> UnreachableError:
        return UnreachableError(str(super()._broken(thread, operation)))


class ReadsAreWrites(WireStorage):
    def _broken(self, thread: int, operation: str) -> UnreachableError:
        return OutcomeUnknownError(str(super()._broken(thread, operation)))


class LeaksConnectionsOfThreads(WireStorage):
    def _close(self, link: Link) -> None:
        if self._links:
            KEPT.append(link)  # the one that is closed last is that of the thread that has connected
        else:
            super()._close(link)


KEPT: list[Link] = []


class BugsAreOutages(WireStorage):
    def _translate(self, exc: Exception) -> StorageError | None:
        return UnreachableError(str(exc))


class BlobOutageIsLoss(WireStorage):
    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        try:
            yield from super()._read_content(ref, generation, pieces)
        except UnreachableError as exc:
            raise CorruptError(str(exc)) from exc
