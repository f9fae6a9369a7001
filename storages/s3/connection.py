"""A bucket with what is kept in it, for one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from flowstore.errors import StorageError, UnreachableError
from flowstore.storages.shared.clock import ServerClock, elapsed

from .blobs import BlobObjects
from .bucket import Bucket
from .conditions import SupportedConditions, conditions_of
from .index import Index
from .options import Options

_THREADS: Final = 16

T = TypeVar("T")
R = TypeVar("R")


class Connection:
    """A client of S3 and a bucket; several threads may call it.

    Attributes:
        bucket: the bucket.
        index: the keys of records and their markers.
        blobs: the objects of blobs and large payloads.
        clock: the server's clock, from ``prepare`` on.
        conditions: which conditional requests the store supports, from ``prepare`` on.
    """

    clock: ServerClock
    conditions: SupportedConditions

    def __init__(self, options: Options) -> None:
        self._options = options
        self.bucket = Bucket(options)
        self.index = Index(self.bucket, options.prefix)
        self.blobs = BlobObjects(self.bucket, options.prefix)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="flowstore-s3")

    def close(self) -> None:
        """Close all connections to the store."""
        self._pool.shutdown(wait=False)
        self.bucket.close()

    def prepare(self) -> None:
        """Check or create the bucket, read the clock, try the conditions.

        Raises:
            StorageError: the bucket does not exist, or is not versioned as the options say.
        """
        options, where = self._options, self._options.where
        clock = self._look()
        if clock is None and options.create_bucket:
            self.bucket.create()
            clock = self._look()
        if clock is None:
            raise StorageError(f"{where} does not exist; create it, or set create_bucket")
        if options.versioned and not self.bucket.is_versioned():
            raise StorageError(f"{where} is not versioned, as the configuration expects")
        self.clock = clock
        self.conditions = conditions_of(self.bucket, options.prefix)

    def _look(self) -> ServerClock | None:
        """Return the server's clock, or None if the bucket does not exist."""
        asked = elapsed()
        date = self.bucket.look(self._options.prefix)
        if date is None:
            return None
        # The header has no fractions of a second.
        return ServerClock(parsedate_to_datetime(date).timestamp() if date else None, 1.0, asked)

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
        """Call a function with each item, in threads; return ordered results."""
        if len(items) < 2:
            return map(work, items)
        try:
            return self._pool.map(work, items)
        except RuntimeError as exc:
            raise UnreachableError(f"{self._options.where} was disconnected while it was in use") from exc
