"""Queries, and the pages of records that they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flowstore.errors import CorruptError
from flowstore.record.keys import Ref
from flowstore.record.kinds import PIECE
from flowstore.record.matching import Scalar, check_fields, check_pattern, matches_fields, matches_pattern
from flowstore.record.record import Record


def check_limit(limit: int | None) -> None:
    """Raise ValueError if the limit of a listing is negative."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be at least 0, or None for all, not {limit}")


@dataclass(frozen=True, slots=True)
class Query:
    """Select records. ``None`` means no restriction.

    Records are returned in the order in which they were first stored, oldest first unless ``descending``.

    Attributes:
        kinds, task_ids, states: any of these; an empty tuple selects nothing.
            Without ``kinds``, every kind except ``PIECE``, the chunks of blobs and large values.
        stored_from, stored_before: seconds since the epoch, the first inclusive, the second exclusive.
        live_at: select what has not expired at that time. If neither this nor ``expired_at`` is set, a storage sets it
            to the current time.
        expired_at: select what has expired at that time.
        pattern: match task ids: ``*`` matches any characters or none, ``?`` any single one, every other character
            itself. Up to 1,000 characters.
        where: match fields of payloads that are JSON objects. A field is named by its keys, separated by dots; its
            value is a string, number, boolean or ``None``. Only if ``isinstance(storage, QueriesFields)``.
        order: by first storing, or by task id: by its code points, then by ``Ref.address``.
        skip: how many selected records to skip when no cursor is given. A count, and a deletion by query, include
            them.

    Raises:
        InvalidKeyError: the pattern, or the name of a field, is invalid.
        ValueError: a value in ``where`` is not a scalar, ``skip`` is negative, or ``order`` is unknown.
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
    pattern: str | None = None
    where: Mapping[str, Scalar] | None = field(default=None, hash=False)
    order: Literal["stored", "task_id"] = "stored"
    skip: int = 0

    def __post_init__(self) -> None:
        if self.pattern is not None:
            check_pattern(self.pattern)
        if self.where is not None:
            check_fields(self.where)
        if self.order not in ("stored", "task_id"):
            raise ValueError(f"order must be 'stored' or 'task_id', not {self.order!r}")
        if self.skip < 0:
            raise ValueError(f"skip must be at least 0, not {self.skip}")

    def names(self, ref: Ref) -> bool:
        """Return whether the reference alone, without headers, allows a match."""
        key = ref.key
        return (
            (ref.kind != PIECE if self.kinds is None else ref.kind in self.kinds)
            and (self.flow_name is None or key.flow_name == self.flow_name)
            and (self.task_name is None or key.task_name == self.task_name)
            and (self.task_id is None or key.task_id == self.task_id)
            and (self.task_ids is None or key.task_id in self.task_ids)
            and (self.pattern is None or matches_pattern(key.task_id, self.pattern))
        )

    def matches(self, record: Record) -> bool:
        """Return whether the query selects the record.

        With ``where``, the record must have its payload.
        """
        return (
            self.names(record.ref)
            and (self.run_id is None or record.run_id == self.run_id)
            and (self.states is None or record.state in self.states)
            and (self.stored_from is None or record.stored_at >= self.stored_from)
            and (self.stored_before is None or record.stored_at < self.stored_before)
            and (self.live_at is None or not record.has_expired(self.live_at))
            and (self.expired_at is None or record.has_expired(self.expired_at))
            and (not self.where or (record.is_json and matches_fields(record.payload, self.where)))
        )


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that a listing could not read.

    Attributes:
        error: where it is and what is wrong. ``error.ref`` is the record's reference, if that could be read.
        kind: its kind, if known without the reference.
        delete: deletes the record and returns whether it existed; ``None`` if its reference is enough to delete it.
    """

    error: CorruptError
    kind: str | None = None
    delete: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the records that a query selects.

    Attributes:
        cursor: an opaque string that gets the next page, or ``None`` on the last one.
        damaged: records that were skipped because they can't be read. Whether the query selects them is unknown.
    """

    records: list[Record]
    cursor: str | None = None
    damaged: Sequence[Damaged] = ()


def pages(read: Callable[[str | None], Page], cursor: str | None = None) -> Iterator[Page]:
    """Iterate over pages to the last one.

    Args:
        read: returns the page after a cursor, or the first page for ``None``.
        cursor: where to start.
    """
    while True:
        page = read(cursor)
        yield page
        cursor = page.cursor
        if cursor is None:
            return
