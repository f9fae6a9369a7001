"""Exclusive claims, and storing a result only where none is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flowstore.duration import Duration
from flowstore.record import RESULT, Ref
from flowstore.storage import RecordStorage
from flowstore.store.base import CONFIGURED, StoreBase
from flowstore.store.outcomes import refuse_readonly, times
from flowstore.store.output_schema import check_result


class ClaimsMixin(StoreBase):
    """Let one of several callers win, in any processes and on any machines."""

    def get_or_store(
        self,
        flow_name: str,
        task_name: str,
        task_id: str,
        default: Any,
        *,
        expires_in: Duration | None = CONFIGURED,
    ) -> Any:
        """Return a result; if none is stored, store the default and return that.

        Of several concurrent callers exactly one stores, and all of them get its value.

        Args:
            default: the result, or a function without arguments that returns it. The function is called only if no
                result is stored.
            expires_in: as in ``store``.

        Raises:
            UnsupportedError: the storage has no atomic condition.
            ReadonlyError: the task has ``storage_readonly``.
            UnknownStorageError, SerializationError, ResultSchemaError, ResultTooLargeError, CorruptError, StorageError:
                as ``store`` and ``retrieve``.
        """
        route, key = self._routed(flow_name, task_name, task_id, expires_in)
        refuse_readonly(route, key)

        def checked() -> Any:
            value = default() if callable(default) else default
            check_result(route.output_schema, value, key)
            return value

        def get_or_store(storage: RecordStorage) -> Any:
            facts = {"state": "SUCCESS", **times(storage, route)}
            return storage.get_or_store(key, checked, facts=facts)

        try:
            return self._operations.write(route.storage, get_or_store)
        finally:
            self._outcomes.caches.drop(route.storage.name, Ref(RESULT, key))

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
        """Claim something under a task's key; return whether it succeeded.

        One of all callers gets it. The claim ends when it is released, when it expires, or when its task or run is
        deleted. An owner that takes longer than ``expires_in`` is not stopped.

        Args:
            name: what is claimed.
            owner: the name of the claimant. The same owner can claim again, which starts ``expires_in`` anew. Without
                an owner, every further claim is refused.
            expires_in: how long the claim lasts; ``None`` for ever.

        Raises:
            UnsupportedError: the storage has no atomic condition.
            UnknownStorageError, StorageError: as ``store``.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        # The same token in each try: a claim whose answer was lost is then recognised as the caller's own.
        token = os.urandom(8).hex()
        return self._operations.write(
            route.storage,
            lambda storage: storage.claim(key, name, owner=owner, expires_in=expires_in, token=token),
        )

    def release(
        self, flow_name: str, task_name: str, task_id: str, name: str = "", *, owner: str | None = None
    ) -> bool:
        """Release a claim; return whether it was held.

        A claim of another owner is left alone.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        return self._operations.write(route.storage, lambda storage: storage.release(key, name, owner=owner))

    @contextmanager
    def claimed(
        self, flow_name: str, task_name: str, task_id: str, name: str = "", *, expires_in: Duration | None = None
    ) -> Iterator[bool]:
        """Claim something for a ``with`` block, and release it at its end.

        ``as`` gets what ``claim`` returns: the block has to check it. Each block is an owner by itself.

        Args:
            name, expires_in: as in ``claim``.

        Raises:
            UnsupportedError, UnknownStorageError, StorageError: as ``claim``.
        """
        owner = os.urandom(16).hex()
        is_held = self.claim(flow_name, task_name, task_id, name, owner=owner, expires_in=expires_in)
        try:
            yield is_held
        finally:
            if is_held:
                self.release(flow_name, task_name, task_id, name, owner=owner)
