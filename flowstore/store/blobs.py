"""Blobs: files of any size beside the results of tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

from flowstore.duration import Duration, seconds
from flowstore.encoding.codec import file_size
from flowstore.record import BLOB, Key, Record
from flowstore.storage import Readable, RecordStorage
from flowstore.store.defaults import CONFIGURED
from flowstore.store.operations import Operations, refuse_readonly, times
from flowstore.store.routing import Route, Router


class BlobFacade:
    """The part of ``FlowStore`` that is about blobs. They are in the storage of their task, each under a name."""

    router: Router
    operations: Operations

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

        It is streamed, never in memory as a whole, and not compressed; encrypted where its storage is. It is there as a
        whole or not at all.

        Args:
            file: bytes, or a file opened in binary mode, read from where it is to its end; it is not closed.
            run_id: the run that it is deleted with, where the task leaves nothing else.
            expires_in: how long it is kept; ``None`` for ever; left out, as long as the configuration says.

        Raises:
            TypeError: ``file`` is neither bytes nor a binary file.
            UnsupportedError: the storage keeps no records.
            ReadonlyError: the task has ``storage_readonly``.
            StorageError: it could not be stored, also after the retries that the policy allows; there are none for a
                file that can't be read again. An older blob is still there.
        """
        route, key = self._blob_place(flow_name, task_name, task_id)
        if expires_in is not CONFIGURED:
            route = replace(route, expires_in=None if expires_in is None else seconds(expires_in))
        refuse_readonly(route, key)
        rewind = _rewinder(file)

        def store(storage: RecordStorage) -> int:
            facts: dict[str, Any] = dict(times(storage, route))
            if run_id is not None:
                facts["run_id"] = run_id
            if rewind is not None:
                rewind()
            return storage.store_blob(key, name, file, facts=facts)

        return self.operations.write(route.storage, store, retry=rewind is not None)

    def retrieve_blob(self, flow_name: str, task_name: str, task_id: str, name: str) -> BinaryIO:
        """Return a blob as a file to read from: once, from its beginning to its end. Close it, or use ``with``.

        Raises:
            NotFoundError, ExpiredError: there is none of that name. An empty one is there.
            CorruptError, ConflictError: also raised by reading: its bytes are damaged; or it was replaced or deleted
                since. Bytes of two blobs are never mixed.
            UnreachableError, UnsupportedError: the storage can't be asked, or keeps no records.
        """
        route, key = self._blob_place(flow_name, task_name, task_id)
        return self.operations.read(route.storage, lambda storage: storage.retrieve_blob(key, name))

    def delete_blob(self, flow_name: str, task_name: str, task_id: str, name: str) -> bool:
        """Delete a blob; tell whether there was one. ``delete`` and ``delete_run`` delete those of a task or run."""
        route, key = self._blob_place(flow_name, task_name, task_id)
        refuse_readonly(route, key)
        return self.operations.write(route.storage, lambda storage: storage.delete(key, BLOB, name))

    def blobs(self, flow_name: str, task_name: str, task_id: str) -> dict[str, int]:
        """Return the names of a task's blobs, in the order of first storing, and the size of each."""
        route, key = self._blob_place(flow_name, task_name, task_id)
        found: list[Record] = self.operations.read(route.storage, lambda storage: storage.blobs(key))
        return {one.ref.name: file_size(one) for one in found}

    def _blob_place(self, flow_name: str, task_name: str, task_id: str) -> tuple[Route, Key]:
        route = self.router.required(flow_name, task_name)
        return route, Key(flow_name, route.task_name, task_id)


def _rewinder(file: Any) -> Callable[[], object] | None:
    """Return what makes a file be read again from where it is now, or ``None`` if it can't be."""
    if isinstance(file, bytes | bytearray | memoryview):
        return lambda: None
    seekable = getattr(file, "seekable", None)
    if seekable is None or not seekable():
        return None
    start = file.tell()
    return lambda: file.seek(start)
