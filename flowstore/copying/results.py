"""Results of copies and comparisons, and reporting problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from flowstore.errors import CorruptError, FlowstoreError, UnreachableError
from flowstore.record import Ref
from flowstore.record.damage import damage_handler, on_damage

OnConflict = Literal["keep", "replace", "newer"]

PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class CopyResult:
    """How many records a copy has processed.

    Attributes:
        copied: written, read back and found equal, including those that replaced another record.
        skipped: already there, or a different record was kept.
        conflicts: the target had a different record; ``on_conflict`` decided what became of it.
        failed: could not be read or written, or differed when read back.
    """

    copied: int = 0
    skipped: int = 0
    conflicts: int = 0
    failed: int = 0

    @property
    def seen(self) -> int:
        """How many records of the source have been processed."""
        return self.copied + self.skipped + self.failed


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that was not copied or differs, and why.

    ``ref`` is ``None`` for a damaged record whose reference can't be read.
    """

    ref: Ref | None
    message: str


ProblemHandler = Callable[[Problem], None]
AnyCounts = TypeVar("AnyCounts", bound=Any)


def add_counts(counts: AnyCounts, **more: int) -> AnyCounts:
    """Return the counts with these numbers added."""
    return replace(counts, **{name: getattr(counts, name) + number for name, number in more.items()})


def reraise_unreachable(exc: FlowstoreError) -> None:
    """Raise the error if it would affect every other record as well."""
    if isinstance(exc, UnreachableError):
        raise exc


@contextmanager
def damage_as_failure(
    fail: Callable[[Ref | None, CorruptError], None], report: ProblemHandler | None
) -> Iterator[None]:
    """Count damaged records that are skipped inside the block as failed."""
    handler = damage_handler()

    def failed(error: CorruptError) -> None:
        fail(error.ref, error)
        if report is None:
            handler(error)

    with on_damage(failed):
        yield
