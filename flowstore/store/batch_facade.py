"""Results by the batch, and the place of a result that several want to fill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from flowstore.duration import Duration, seconds
from flowstore.errors import NotFoundError
from flowstore.record import Key
from flowstore.store.batches import Batches, KeyLike
from flowstore.store.defaults import CONFIGURED, RAISE
from flowstore.store.operations import Operations
from flowstore.store.routing import Route, Router


class BatchFacade:
    """The part of ``FlowStore`` that handles many results at once, and claims."""

    router: Router
    operations: Operations
    flow_batches: Batches

    def store_many(self, items: Mapping[KeyLike, object] | Iterable[tuple[KeyLike, object]]) -> list[str | None]:
        """Store many results, each by the policies of its own task, in a few round trips for each storage.

        Args:
            items: keys and results. A key is a ``Key``, or its flow name, task name and task id.

        Returns:
            The records' ids in the order of the items; see ``store``.

        Raises:
            ValueError: a key comes twice.
            UnknownStorageError, UnsupportedError, SerializationError, ResultSchemaError, ResultTooLargeError: one of
                the results can't be stored; nothing has been.
            ConflictError: other results are stored already under some keys, under ``on_conflict: error``.
            StorageError: a storage failed. Some may have been stored; storing all again is harmless.
        """
        return self.flow_batches.store(items.items() if isinstance(items, Mapping) else items)

    def retrieve_many(self, keys: Iterable[KeyLike], default: Any = RAISE) -> list[Any]:
        """Return many results in the order of their keys, in a few round trips for each storage.

        Args:
            keys: each a ``Key``, or its flow name, task name and task id.
            default: stands for each result that is not stored, or has expired.

        Raises:
            NotFoundError: one is not stored, or has expired, and there is no default.
            CorruptError, UnreachableError, UnknownStorageError: as ``retrieve``.
        """
        wanted = list(keys)
        found = self.flow_batches.retrieve(wanted)
        missing = [key for key, (is_there, _) in zip(wanted, found, strict=True) if not is_there]
        if missing and default is RAISE:
            more = f", nor under {len(missing) - 1} of the other keys" if len(missing) > 1 else ""
            raise NotFoundError(f"no result is stored under {missing[0]}{more}")
        return [value if is_there else default for is_there, value in found]

    def delete_many(self, keys: Iterable[KeyLike]) -> int:
        """Delete everything stored under many keys; return the number of records.

        Raises:
            ReadonlyError: a task has ``storage_readonly``; nothing was deleted.
            UnknownStorageError, StorageError: as ``delete``.
        """
        return self.flow_batches.delete(keys)

    def get_or_store(
        self,
        flow_name: str,
        task_name: str,
        task_id: str,
        default: Any,
        *,
        expires_in: Duration | None = CONFIGURED,
    ) -> Any:
        """Return a result; where none is stored, store a default, once, and return that.

        Of any number of callers at the same time, on any machines, one stores; all get its value.

        Args:
            default: the result, or a function without arguments that gives it, called where none is stored.
            expires_in: as in ``store``.

        Raises:
            UnsupportedError: the storage has no atomic condition.
            ReadonlyError: the task has ``storage_readonly``.
            UnknownStorageError, SerializationError, ResultSchemaError, ResultTooLargeError, CorruptError, StorageError:
                as ``store`` and ``retrieve``.
        """
        route, key = self._routed(flow_name, task_name, task_id, expires_in)
        return self.flow_batches.get_or_store(route, key, default)

    # Claims

    def claim(
        self,
        flow_name: str,
        task_name: str,
        task_id: str,
        name: str = "",
        *,
        owner: str | None = None,
        expires_in: Duration | None = None,
    ) -> bool:
        """Claim something under a task's key; tell whether it is the caller's now.

        Of any number of callers, in any processes and on any machines, one gets it, until it is released, deleted with
        its task or run, or expired. An owner that takes longer than ``expires_in`` is not stopped.

        Args:
            name: what is claimed there.
            owner: who claims. The same owner may claim again, which begins ``expires_in`` anew; without an owner, a
                second claim is refused whoever makes it.
            expires_in: how long the claim lasts; for ever without.

        Raises:
            UnsupportedError: the storage has no atomic condition.
            UnknownStorageError, StorageError: as ``store``.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        return self.flow_batches.claim(route, key, name, owner, expires_in)

    def release(
        self, flow_name: str, task_name: str, task_id: str, name: str = "", *, owner: str | None = None
    ) -> bool:
        """Give a claim back; tell whether it was there. A claim of another owner is left alone."""
        route, key = self._routed(flow_name, task_name, task_id)
        return self.operations.write(route.storage, lambda storage: storage.release(key, name, owner=owner))

    def _routed(
        self, flow_name: str, task_name: str, task_id: str, expires_in: Duration | None = CONFIGURED
    ) -> tuple[Route, Key]:
        route = self.router.required(flow_name, task_name)
        if expires_in is not CONFIGURED:
            route = replace(route, expires_in=None if expires_in is None else seconds(expires_in))
        return route, Key(flow_name, route.task_name, task_id)
