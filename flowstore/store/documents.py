"""Mappings of named values in a storage, each value with revisions."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from flowstore.errors import ConflictError, NotFoundError, OutcomeUnknownError
from flowstore.record import Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.store.operations import Operations, made_once
from flowstore.store.outcomes import refuse_readonly, times
from flowstore.store.patience import Patience
from flowstore.store.routing import Route

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.1


class Documents(MutableMapping[str, Any]):
    """Values by name, of one kind and under one key, with revisions.

    A mapping with the methods of a dict, except that ``update`` takes a name and a function. Names come in the order in
    which they were first stored. Every access reads the storage, nothing is cached. Writers of different names don't
    conflict. Safe in threads and processes.

    Every method raises UnreachableError if the storage can't be reached, after all retries. A retried write is not done
    twice.
    """

    def __init__(self, operations: Operations, route: Route, kind: str, key: Key, *, run_id: str | None = None) -> None:
        self._operations = operations
        self._route = route
        self._entry = route.storage
        self._key = key
        self._run_id = run_id
        self._query = Query((kind,), key.flow_name, key.task_name, key.task_id)
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self._key} in {self._entry.name!r}>"

    def __getitem__(self, name: str) -> Any:
        """Return a value; raise NotFoundError, which is a KeyError, if missing."""
        return self._decode(self._read(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or the default if it is missing or has expired.

        Raises:
            CorruptError: the value can't be read.
        """
        record = self._find(name)
        return default if record is None else self._decode(record)

    def revision(self, name: str) -> int:
        """Return the revision of a value, or 0 if it is missing.

        It grows by one with each change. A value that is deleted and set again gets a revision it never had before.
        """
        record = self._find(name, payload=False)
        return 0 if record is None else record.revision

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name, payload=False) is not None

    def __iter__(self) -> Iterator[str]:
        return (record.ref.name for record in self._records(payload=False))

    def items(self) -> ItemsView[str, Any]:
        """Return a view of names and values. It reads a page at a time."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values. It reads a page at a time."""
        return _Values(self)

    def __len__(self) -> int:
        return self._operations.read(self._entry, lambda storage: storage.count(self._query))

    def set(self, name: str, value: object, *, if_revision: int | None = None) -> int:
        """Store a value and return its revision.

        Args:
            if_revision: ``None`` replaces any value; 0 stores only if there is no value; n replaces only revision n.

        Raises:
            SerializationError: the value can't be stored. The old one is kept.
            ConflictError: the condition is not met. ``current`` is the stored record.
            OutcomeUnknownError: the connection broke, and the value has changed since. It is unknown whether this call
                wrote it in between.
        """
        return self._put(name, value, if_revision).revision

    def __setitem__(self, name: str, value: object) -> None:
        self._put(name, value, None)

    def update(  # type: ignore[override]
        self, name: str, function: Callable[[Any], object], default: Any = None
    ) -> Any:
        """Replace a value by what a function returns for it, and return that.

        No concurrent change is lost.

        Args:
            function: takes the current value, or a copy of the default if it is missing, and returns the new one. It is
                called again with the newer value whenever another writer was faster.

        Raises:
            SerializationError, OutcomeUnknownError: as ``set``.
        """
        longest, patience = _FIRST_PAUSE, self._operations.patience(self._entry)
        while True:
            record = self._find(name, patience=patience)
            value = function(copy.deepcopy(default) if record is None else self._decode(record))
            try:
                self._put(name, value, 0 if record is None else record.revision, patience)
            except ConflictError:
                # Random, because writers that retry all at once would conflict again.
                time.sleep(random.uniform(0, longest))
                longest = min(2 * longest, _LONGEST_PAUSE)
            else:
                return value

    def get_or_set(self, name: str, default: Any) -> Any:
        """Return a value; if it is missing, store the default and return that.

        Of several concurrent callers exactly one stores, and all of them get its value.

        Args:
            default: the value, or a function that returns it. The function is called only if the value is missing.
        """
        patience = self._operations.patience(self._entry)
        while True:
            record = self._find(name, patience=patience)
            if record is not None:
                return self._decode(record)
            value = default() if callable(default) else default
            try:
                return self._decode(self._put(name, value, 0, patience, accept_any=True))
            except ConflictError:
                continue

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a value; if it is missing, store the default and return that."""
        return self.get_or_set(name, lambda: default)

    def pop(self, name: str, *default: Any) -> Any:
        """Delete a value and return it, or the default if it is missing.

        Of several concurrent callers exactly one gets it.

        Raises:
            NotFoundError: the value is missing, and no default is given.
            OutcomeUnknownError: the connection broke, and the value is gone. It is unknown whether this call deleted
                it.
        """
        patience = self._operations.patience(self._entry)
        refuse_readonly(self._route, self._key)
        while True:
            try:
                record = self._read(name, patience=patience)
            except NotFoundError:
                if default:
                    return default[0]
                raise
            try:
                if self._delete(name, record.revision, patience):
                    return self._decode(record)
            except ConflictError:  # another writer was faster
                pass

    def popitem(self) -> tuple[str, Any]:
        """Delete the last value, and return its name and it.

        Raises:
            NotFoundError: there are no values. It is a KeyError.
        """
        latest = replace(self._query, descending=True)
        while True:
            page = self._operations.read(self._entry, lambda storage: storage.scan(latest, limit=1, payload=False))
            if not page.records:
                raise NotFoundError(f"{self!r} is empty")
            name = page.records[0].ref.name
            with suppress(NotFoundError):
                return name, self.pop(name)

    def delete(self, name: str, *, if_revision: int | None = None) -> bool:
        """Delete a value; return whether it existed.

        Raises:
            ConflictError: its revision is not ``if_revision``. ``current`` is the stored record.
        """
        refuse_readonly(self._route, self._key)
        return self._operations.write(
            self._entry, lambda storage: storage.delete(self._key, self.kind, name, if_revision=if_revision)
        )

    def __delitem__(self, name: str) -> None:
        if not self.delete(name):
            raise NotFoundError(f"no {Ref(self.kind, self._key, name)} is stored")

    def clear(self) -> int:  # type: ignore[override]
        """Delete all current values; return their number."""
        refuse_readonly(self._route, self._key)
        seen = list(self._records(payload=False))
        return self._operations.write(self._entry, lambda storage: storage.delete_seen(seen))

    def _facts(self) -> Mapping[str, Any]:
        return {} if self._run_id is None else {"run_id": self._run_id}

    def _records(self, payload: bool) -> Iterator[Record]:
        return self._operations.listed(self._entry, self._query, payload=payload)

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        return ((record.ref.name, self._decode(record)) for record in self._records(payload=True))

    def _read(self, name: str, payload: bool = True, patience: Patience | None = None) -> Record:
        return self._operations.read(
            self._entry, lambda storage: storage.get(self._key, self.kind, name, payload=payload), patience
        )

    def _find(self, name: str, payload: bool = True, patience: Patience | None = None) -> Record | None:
        try:
            return self._read(name, payload, patience)
        except NotFoundError:
            return None

    def _decode(self, record: Record) -> Any:
        return self._operations.pipeline(self._entry).decode(record)

    def _delete(self, name: str, revision: int, patience: Patience) -> bool:
        tries = 0

        def delete(storage: RecordStorage) -> bool:
            nonlocal tries
            tries += 1
            return storage.delete(self._key, self.kind, name, if_revision=revision)

        deleted = self._operations.write(self._entry, delete, patience=patience)
        if not deleted and tries > 1:
            raise OutcomeUnknownError(
                f"the connection broke while {Ref(self.kind, self._key, name)} was deleted, and it is gone: "
                "it is unknown whether this call deleted it"
            )
        return deleted

    def _put(
        self,
        name: str,
        value: object,
        if_revision: int | None,
        patience: Patience | None = None,
        accept_any: bool = False,
    ) -> Record:
        refuse_readonly(self._route, self._key)
        ref = Ref(self.kind, self._key, name)
        encode = self._operations.pipeline(self._entry).encode
        # Encoded once: in a retry, its token shows that it is the same write.
        record = made_once(lambda storage: encode(ref, value, {**self._facts(), **times(storage, self._route)}))
        tries = 0

        def write(storage: RecordStorage) -> Record:
            nonlocal tries
            tries += 1
            return storage.put(record(storage), if_revision=if_revision)

        try:
            return self._operations.write(self._entry, write, patience=patience)
        except ConflictError as exc:
            # A record that directly follows the expected revision leaves no room for this one in between. After
            # revision 0 that is unknown: another record may have been written and deleted since.
            follows = bool(if_revision) and exc.current is not None and exc.current.revision == (if_revision or 0) + 1
            if tries > 1 and not accept_any and not follows:
                raise OutcomeUnknownError(
                    f"the connection broke while {ref} was written, and it has changed since: "
                    "it is unknown whether this call wrote it in between"
                ) from exc
            raise


class _Items(ItemsView[str, Any]):
    _mapping: Documents

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return self._mapping._pairs()


class _Values(ValuesView[Any]):
    _mapping: Documents

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs())
