"""Adapters of records, each with one mistake in what it keeps apart from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any

from flowstore.duration import Duration
from flowstore.errors import CorruptError, NotFoundError
from flowstore.record import BLOB, ERROR, PIECE, RESULT, Page, Query, Record, Ref
from flowstore.storage import NativeBlobs, Source
from tests.testing.wire import WireStorage


class OverwritesInPlace(WireStorage):
    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        return super()._write_content(ref, ref.address.hex(), source)

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        return super()._read_content(ref, ref.address.hex(), pieces)

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        if self._get(ref, False) is None:
            super()._delete_content(ref, ref.address.hex(), pieces)


class EmptyBlobIsMissing(WireStorage):
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        found = super()._get(ref, payload)
        return None if found is not None and ref.kind == BLOB and not found.headers["size"] else found


class LeavesPieces(WireStorage):
    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        """Leave it to somebody else."""


class ForgetsToSettle(WireStorage):
    def _settle_content(self, ref: Ref, written: Mapping[str, int] | None = None) -> None:
        if written is not None:
            super()._settle_content(ref, written)


class ReadsWholeBlob(WireStorage):
    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        return super()._write_content(ref, generation, Source(source.read(1 << 27)))


class PiecesListed(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.kinds is None:
            query = dataclasses.replace(query, kinds=(RESULT, ERROR, BLOB, PIECE))
        return super()._scan(query, cursor, limit, payload)


class PartialBlobKept(WireStorage):
    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        return super()._write_content(ref, generation, _UpToFailure(source))


class _UpToFailure(Source):
    """Ends where the file it is read from fails."""

    def __init__(self, source: Source) -> None:
        super().__init__(b"")
        self._source = source

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except OSError:
            return b""


class OrphansOverlooked(WireStorage):
    def remove_orphans(self, older_than: Duration = 0) -> int:
        return 0


class LossIsMiss(WireStorage):
    def get(self, *arguments: Any, **options: Any) -> Record:
        try:
            return super().get(*arguments, **options)
        except CorruptError as exc:
            raise NotFoundError(str(exc)) from exc


class PromisesNativeBlobs(WireStorage, NativeBlobs):
    """Leaves blobs to the base class all the same."""
