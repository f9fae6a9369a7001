"""Results and errors of tasks, one at a time, and references to results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowstore.duration import Duration
from flowstore.errors import NotFoundError
from flowstore.record import ERROR, Query
from flowstore.record.failure import RemoteTaskError
from flowstore.record.reference import Reference
from flowstore.storage import ExcInfo
from flowstore.store.base import CONFIGURED, RAISE, StoreBase
from flowstore.store.routing import Route
from flowstore.texts import summarize


class ResultsMixin(StoreBase):
    """Store, retrieve and delete what a task returned or raised.

    ``task_name`` is the name of the Celery task, or its ``storage_task_name``, in all methods of ``FlowStore``.
    """

    def store(
        self,
        flow_name: str,
        task_name: str,
        task_id: str,
        result: object,
        *,
        expires_in: Duration | None = CONFIGURED,
    ) -> str | None:
        """Store a result in the storage that is configured for its task.

        Args:
            expires_in: how long it is kept: seconds, a ``timedelta``, or a text such as ``"7d"``; ``None`` keeps it
                for ever. If omitted, the configuration of the task, its flow or its storage decides.

        Returns:
            The id of the record. For a plain ``DataStorage``, what its ``store`` returned, as a string.

        Raises:
            UnknownStorageError: the task has no storage.
            SerializationError, ResultSchemaError, ResultTooLargeError: the result is refused. An older one is kept.
            ConflictError: another result is stored already, and ``on_conflict`` is ``error``.
            StorageError: the result could not be stored.
        """
        route, key = self._routed(flow_name, task_name, task_id, expires_in)
        return self._outcomes.store_result(route, key, result, {"state": "SUCCESS"})

    def retrieve(self, flow_name: str, task_name: str, task_id: str, default: Any = RAISE) -> Any:
        """Return a result. Every call returns a new object.

        Args:
            default: returned instead of raising NotFoundError. Every other error is raised all the same.

        Raises:
            NotFoundError: no result is stored under this key.
            CorruptError: the stored result can't be read.
            UnreachableError: the storage can't be reached.
            UnknownStorageError: the task has no storage.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        try:
            return self._outcomes.retrieve(route, key)
        except NotFoundError:
            if default is RAISE:
                raise
            return default

    def store_error(
        self,
        node_args: Any,
        flow_name: str,
        task_name: str,
        task_id: str,
        exc_info: BaseException | ExcInfo,
    ) -> str | None:
        """Store the error that ended a task.

        Args:
            node_args: the arguments of the task. They are stored as text.
            exc_info: the exception, or what ``sys.exc_info()`` returned.

        Raises:
            UnknownStorageError, StorageError: as ``store``.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        exc = exc_info if isinstance(exc_info, BaseException) else exc_info[1]
        return self._outcomes.store_error(route, key, exc, {"node_args": node_args, "error": summarize(exc)})

    def retrieve_error(
        self, flow_name: str, task_name: str, task_id: str, default: Any = RAISE, *, attempt: int | None = None
    ) -> RemoteTaskError | Any:
        """Return an error of a task as an exception.

        Raising it shows the whole chain of causes. ``failure`` holds the same as data.

        Args:
            default: returned instead of raising NotFoundError.
            attempt: the number of a failed attempt that was retried; ``None`` for the error that ended the task.

        Raises:
            NotFoundError, CorruptError, UnreachableError, UnknownStorageError: as ``retrieve``.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        try:
            return self._outcomes.retrieve_error(route, key, "" if attempt is None else str(attempt))
        except NotFoundError:
            if default is RAISE:
                raise
            return default

    def errors(self, flow_name: str, task_name: str, task_id: str) -> list[RemoteTaskError]:
        """Return all errors of a task, in the order of its attempts.

        The error that ended the task, if any, is the last one.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        query = Query((ERROR,), key.flow_name, key.task_name, key.task_id)
        found = list(self._operations.listed(route.storage, query))
        found.sort(key=lambda record: (not record.ref.name, record.headers.get("attempt", 0)))
        decode = self._operations.pipeline(route.storage).decode_error
        return [decode(record) for record in found]

    def delete(self, flow_name: str, task_name: str, task_id: str) -> bool:
        """Delete everything stored under a key; return whether anything was.

        That is records of every kind: result, errors, checkpoints, blobs, claims and history.

        Raises:
            ReadonlyError: the task has ``storage_readonly``.
            UnsupportedError: the storage can't delete.
            UnknownStorageError, StorageError: as ``store``.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        return self._outcomes.delete(route, key)

    # References

    def reference(self, flow_name: str, task_name: str, task_id: str) -> Reference:
        """Return a reference to a result, whether or not it is stored yet.

        Connects to no storage.

        Raises:
            UnknownStorageError: the task has no storage.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        return Reference(route.storage.name, key)

    def load(self, reference: Reference | Mapping[str, Any]) -> Any:
        """Return the result that a reference points to, as a new object.

        Args:
            reference: what ``reference`` returned, or the mapping that it became in a message.

        Raises:
            SerializationError: it is not a reference.
            UnknownStorageError: its storage is not declared here.
            NotFoundError, CorruptError, UnreachableError: as ``retrieve``.
        """
        if not isinstance(reference, Reference):
            reference = Reference.from_dict(reference)
        key = reference.key
        return self._outcomes.retrieve(Route(self._router.get_entry(reference.storage), key.task_name), key)
