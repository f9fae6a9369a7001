"""Exclusive claims and put-if-absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowstore.duration import Duration, seconds
from flowstore.errors import ConflictError, NotFoundError
from flowstore.record import CLAIM, RESULT, Key, Ref
from flowstore.storage.values import Values


class Claims(Values):
    """Operations with one winner among all threads, processes and machines."""

    def claim(
        self,
        key: Key,
        name: str = "",
        *,
        owner: str | None = None,
        expires_in: Duration | None = None,
        token: str | None = None,
    ) -> bool:
        """Acquire a claim; return whether the caller holds it.

        A claim lasts until it is released, expires, or is deleted with its task or run. It only excludes other claims:
        an owner that takes longer than ``expires_in`` is not stopped, and another one may acquire the claim.

        Args:
            key: the key; nothing else needs to be stored under it.
            name: the name of the claim under the key.
            owner: who claims. The same owner may claim again, which restarts ``expires_in``; without an owner, every
                second claim is refused.
            expires_in: how long the claim lasts, by the storage's clock; by default it never expires.
            token: identifies this attempt: repeating it with the same token, after an answer was lost, is not refused.

        Raises:
            UnsupportedError: the database has no conditional writes.
        """
        now = self._time()
        facts: dict[str, Any] = {"stored_at": now}
        if owner is not None:
            facts["owner"] = owner
        if expires_in is not None:
            facts["expires_at"] = now + seconds(expires_in)
        if token is not None:
            facts["token"] = token
        record = self.pipeline.encode(Ref(CLAIM, key, name), None, facts)
        if_revision = 0
        while True:
            try:
                self.put(record, if_revision=if_revision)
            except ConflictError as exc:
                current = exc.current
            else:
                return True
            if current is not None and (owner is None or current.headers.get("owner") != owner):
                return False
            # The caller's own claim, or one that is gone: each turn of this loop means that another caller succeeded.
            if_revision = 0 if current is None else current.revision

    def release(self, key: Key, name: str = "", *, owner: str | None = None) -> bool:
        """Release a claim; return whether it was held.

        Args:
            key, name: of the claim.
            owner: who claimed it. A claim of another owner, or one that has expired, is left alone.
        """
        while True:
            try:
                current = self.get(key, CLAIM, name, payload=False)
            except NotFoundError:
                return False
            if current.headers.get("owner") != owner:
                return False
            try:
                return self.delete(key, CLAIM, name, if_revision=current.revision)
            except ConflictError:
                continue  # claimed again meanwhile, by the same owner or another one

    def get_or_store(
        self,
        key: Key,
        default: Any,
        *,
        kind: str = RESULT,
        name: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the stored value; if nothing is stored, store a default first.

        Of any number of concurrent callers, one stores; all of them get its value, each a separate object.

        Args:
            default: the value, or a function without arguments that returns it, called if nothing is stored. Its value
                is discarded if another caller was faster.
            facts: additional headers of the stored record.

        Raises:
            UnsupportedError: the database has no conditional writes, and nothing is stored yet.
        """
        record = None
        while True:
            try:
                return self.pipeline.decode(self.get(key, kind, name))
            except NotFoundError:
                pass
            if record is None:
                value = default() if callable(default) else default
                record = self.pipeline.encode(Ref(kind, key, name), value, {"stored_at": self._time(), **(facts or {})})
            try:
                return self.pipeline.decode(self.put(record, if_revision=0))
            except ConflictError:
                continue  # another caller was faster; read what it stored
