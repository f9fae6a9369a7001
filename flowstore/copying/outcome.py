"""What became of the records, and when two of them are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from flowstore.errors import CorruptError, FlowstoreError, UnreachableError
from flowstore.record import Record, Ref
from flowstore.record.damage import damage_to, listener
from flowstore.storage import RecordStorage

OnConflict = Literal["keep", "replace", "newer"]

PAGE: Final = 200
_PART: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CopyResult:
    """How many records a copy has dealt with.

    Attributes:
        copied: written, read again and found the same; those that replaced another one are among them.
        skipped: there already, the same, or something else that was kept.
        conflicts: something else was there under the same reference; what became of it, ``on_conflict`` told.
        failed: could not be read or written, or were not the same when they were read again.
    """

    copied: int = 0
    skipped: int = 0
    conflicts: int = 0
    failed: int = 0

    @property
    def seen(self) -> int:
        """How many records of the source have been looked at."""
        return self.copied + self.skipped + self.failed


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that was not copied, or is not the same in both storages, and why; a damaged one may have no name."""

    ref: Ref | None
    message: str


Report = Callable[[Problem], None]
AnyCounts = TypeVar("AnyCounts", bound=Any)


def counted(counts: AnyCounts, **more: int) -> AnyCounts:
    """Return counts with something added."""
    return replace(counts, **{name: getattr(counts, name) + number for name, number in more.items()})


def refuse_unreachable(exc: FlowstoreError) -> None:
    """Raise an error that will meet every other record as well."""
    if isinstance(exc, UnreachableError):
        raise exc


def same(one: Record, other: Record) -> bool:
    """Tell whether two records are of the same write: by their tokens, or where one has none, by all they hold."""
    token, other_token = one.headers.get("token"), other.headers.get("token")
    if token is None or other_token is None:
        return (one.payload, one.headers) == (other.payload, other.headers)
    return (token, one.headers.get("digest")) == (other_token, other.headers.get("digest"))


@contextmanager
def damage_failing(fail: Callable[[Ref | None, CorruptError], None], report: Report | None) -> Iterator[None]:
    """Let each damaged record that a listing inside passes over count as failed."""
    listening = listener()

    def failed(error: CorruptError) -> None:
        fail(error.ref, error)
        if report is None:
            listening(error)

    with damage_to(failed):
        yield


def is_whole(record: Record) -> bool:
    """Tell whether the bytes of a record are those that its digest tells of, if it has one."""
    digest = record.headers.get("digest")
    return digest is None or digest == hashlib.blake2b(record.payload, digest_size=16).hexdigest()


def blob_digest(storage: RecordStorage, ref: Ref) -> str:
    """Return the digest of a blob's bytes, read from the storage."""
    digest = hashlib.blake2b(digest_size=16)
    with storage.retrieve_blob(ref.key, ref.name, kind=ref.kind, raw=True) as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()
