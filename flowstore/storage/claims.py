"""What of several that want the same one gets: a claim, or the place of a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowstore.duration import Duration, seconds
from flowstore.errors import ConflictError, NotFoundError
from flowstore.record import CLAIM, RESULT, Key, Ref
from flowstore.storage.values import Values


class Claims(Values):
    """The operations with one winner: of any number of threads, processes and machines."""

    def claim(
        self,
        key: Key,
        name: str = "",
        *,
        owner: str | None = None,
        expires_in: Duration | None = None,
        token: str | None = None,
    ) -> bool:
        """Claim something under a key; tell whether it is the caller's now.

        A claim lasts until it is released, deleted with its task or run, or expired. It does nothing but exclude other
        claims: an owner that takes longer than ``expires_in`` is not stopped, and somebody else may have it then.

        Args:
            key: the key; nothing else need be stored under it.
            name: what is claimed there.
            owner: who claims. The same owner may claim again, which begins ``expires_in`` anew; without an owner, the
                second claim is refused whoever makes it.
            expires_in: how long the claim lasts; for ever without. By the storage's clock.
            token: marks this one attempt: repeated with the same token, after an answer was lost, it is not refused.

        Raises:
            UnsupportedError: the database has no atomic condition.
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
            # The caller's own, or gone since: each turn of this loop means that another one got on.
            if_revision = 0 if current is None else current.revision

    def release(self, key: Key, name: str = "", *, owner: str | None = None) -> bool:
        """Give a claim back; tell whether it was there.

        Args:
            key, name: what was claimed.
            owner: who claimed it. A claim of somebody else, or one that has expired, is left alone.
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
                continue  # claimed anew meanwhile, by the same owner or another one

    def get_or_store(
        self,
        key: Key,
        default: Any,
        *,
        kind: str = RESULT,
        name: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what is stored; where nothing is, store a default, once, and return that.

        Of any number of callers at the same time, one stores; all of them get its value, each an object of its own.

        Args:
            default: the value, or a function without arguments that gives it, called where nothing is stored. It may
                be called in vain, where another caller was faster.
            facts: further headers of what is stored.

        Raises:
            UnsupportedError: the database has no atomic condition, and nothing is stored yet.
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
                continue  # somebody else was faster; read what it stored
