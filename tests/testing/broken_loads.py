"""Adapters of records, each with one mistake that shows in large batches, in large records or in their headers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from flowstore.errors import StorageError
from flowstore.record import RESULT, Page, Query, Record, Ref
from tests.testing.wire import WireStorage

_MEGABYTE = 1 << 20


class DriverLimitError(Exception):
    """What a driver raises at a limit of its own."""


def _within_a_megabyte(records: Sequence[Record | None]) -> list[Record | None]:
    answer, size = [], 0
    for one in records:
        size += 0 if one is None else len(one.payload)
        answer.append(one if size <= _MEGABYTE else None)
    return answer


class GetManyCutAtMegabyte(WireStorage):
    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        return _within_a_megabyte(super()._get_many(refs))


class ScanCutAtMegabyte(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(query, cursor, limit, payload)
        return Page([one for one in _within_a_megabyte(page.records) if one is not None], page.cursor)


class BatchFailsBeyondMegabyte(WireStorage):
    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        if sum(len(one.payload) for one in records) > _MEGABYTE:
            raise StorageError("the batch is too large")
        return super()._put_many(records, now)


class GetManyInOneStatement(WireStorage):
    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        if len(refs) > 65_535:
            raise DriverLimitError("too many parameters")
        return super()._get_many(refs)


class PutManyInOneStatement(WireStorage):
    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        if len(records) > 2_100:
            raise DriverLimitError("too many parameters")
        return super()._put_many(records, now)


class TaskIdsCut(WireStorage):
    def _count(self, query: Query) -> int:
        ids = query.task_ids
        return super()._count(query if ids is None else dataclasses.replace(query, task_ids=ids[:1000]))


class HeaderNamesWithDots(WireStorage):
    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        return super()._put_many([self._unfolded(one) for one in records], now)

    def _unfolded(self, record: Record) -> Record:
        headers: dict[str, Any] = {}
        for name, value in record.headers.items():
            outer, dot, inner = name.partition(".")
            headers |= {outer: {inner: value}} if dot else {name: value}
        return dataclasses.replace(record, headers=headers)


class HeadersLostInBatch(WireStorage):
    KNOWN = frozenset({"format", "serializer", "content_type", "size", "digest", "token", "stored_at", "run_id"})

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        return super()._put_many([self._known(one) for one in records], now)

    def _known(self, record: Record) -> Record:
        return dataclasses.replace(
            record, headers={name: value for name, value in record.headers.items() if name in self.KNOWN}
        )


class BigIntegersAsFloats(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return super()._put(dataclasses.replace(record, headers=_rounded(record.headers)), if_revision, now)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return int(float(value)) if type(value) is int else value


class ChangesWhatItIsGiven(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        record.headers["written_by"] = "me"  # type: ignore[index]
        return super()._put(record, if_revision, now)


class CutsAtSixteenMegabytes(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return super()._put(dataclasses.replace(record, payload=record.payload[: 16 << 20]), if_revision, now)


class RefusesHugeWithDriverError(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        if len(record.payload) > 16 << 20 and record.kind == RESULT:
            raise DriverLimitError("the packet is too large")
        return super()._put(record, if_revision, now)


class TimesInWholeMilliseconds(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        headers = dict(record.headers)
        if "stored_at" in headers:
            headers["stored_at"] = int(headers["stored_at"] * 1000) / 1000
        return super()._put(dataclasses.replace(record, headers=headers), if_revision, now)


class InstantsAskedInWholeSeconds(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.stored_before is not None:
            query = dataclasses.replace(query, stored_before=float(int(query.stored_before)))
        return super()._scan(query, cursor, limit, payload)
