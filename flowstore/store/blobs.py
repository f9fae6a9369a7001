"""Blobs: files of any size, stored beside the results of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from flowstore.duration import Duration
from flowstore.encoding.codec import file_size
from flowstore.record import BLOB, Record
from flowstore.storage import Readable, RecordStorage
from flowstore.store.base import CONFIGURED, StoreBase
from flowstore.store.outcomes import refuse_readonly, times


class BlobsMixin(StoreBase):
    """Store, retrieve and delete the blobs of a task, each by name."""

    def store_blob(
        self,
        flow_name: str,
        task_name: str,
        task_id: str,
        name: str,
        file: Readable,
        *,
        run_id: str | None = None,
        expires_in: Duration | None = CONFIGURED,
    ) -> int:
        """Store a blob under a name, replacing an older one; return its size.

        The blob is streamed and never held in memory as a whole. It is not compressed. It is encrypted if its storage
        is. Readers see all of it or nothing.

        Args:
            file: bytes, or a file opened in binary mode. It is read from its position to its end, and not closed.
            run_id: the run that the blob is deleted with, for a task that stores nothing else.
            expires_in: how long it is kept; ``None`` for ever. If omitted, the configuration decides.

        Raises:
            TypeError: ``file`` is neither bytes nor a binary file.
            UnsupportedError: the storage keeps no records.
            ReadonlyError: the task has ``storage_readonly``.
            StorageError: the blob could not be stored, after all retries. A file that is not seekable is not retried.
                An older blob is kept.
        """
        route, key = self._routed(flow_name, task_name, task_id, expires_in)
        refuse_readonly(route, key)
        rewind = _rewinder(file)

        def store(storage: RecordStorage) -> int:
            facts: dict[str, Any] = dict(times(storage, route))
            if run_id is not None:
                facts["run_id"] = run_id
            if rewind is not None:
                rewind()
            return storage.store_blob(key, name, file, facts=facts)

        return self._operations.write(route.storage, store, retry=rewind is not None)

    def retrieve_blob(self, flow_name: str, task_name: str, task_id: str, name: str) -> BinaryIO:
        """Return a blob as a file that can be read once, from start to end.

        Close it, or use ``with``.

        Raises:
            NotFoundError, ExpiredError: no blob has that name.
            CorruptError: the blob is damaged. Reading from the file raises it too.
            ConflictError: raised by reading, if the blob was replaced or deleted since. Bytes of two blobs are never
                mixed.
            UnreachableError: the storage can't be reached.
            UnsupportedError: the storage keeps no records.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        return self._operations.read(route.storage, lambda storage: storage.retrieve_blob(key, name))

    def delete_blob(self, flow_name: str, task_name: str, task_id: str, name: str) -> bool:
        """Delete a blob; return whether it existed.

        ``delete`` and ``delete_run`` delete all blobs of a task or run.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        refuse_readonly(route, key)
        return self._operations.write(route.storage, lambda storage: storage.delete(key, BLOB, name))

    def blobs(self, flow_name: str, task_name: str, task_id: str) -> dict[str, int]:
        """Return the names and sizes of a task's blobs, the oldest first."""
        route, key = self._routed(flow_name, task_name, task_id)
        found: list[Record] = self._operations.read(route.storage, lambda storage: storage.blobs(key))
        return {one.ref.name: file_size(one) for one in found}


def _rewinder(file: Any) -> Callable[[], object] | None:
    """Return a function that rewinds a file to its position now.

    Returns None if the file is not seekable.
    """
    if isinstance(file, bytes | bytearray | memoryview):
        return lambda: None
    seekable = getattr(file, "seekable", None)
    if seekable is None or not seekable():
        return None
    start = file.tell()
    return lambda: file.seek(start)
