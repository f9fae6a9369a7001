"""Named values that change: the variables of a flow or run, an application's settings, the checkpoints of a task."""

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
from flowstore.store.operations import Operations, made_once, refuse_readonly, times
from flowstore.store.patience import Patience
from flowstore.store.routing import Route

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.1


class Documents(MutableMapping[str, Any]):
    """Values by name, all of one kind and under one key, each a record with a revision of its own.

    A mapping with all that a dict has, but for ``update``, which here takes a name and a function. The names come in
    the order of first storing. Every access asks the storage; nothing is kept here. Writers of different names never
    meet. Safe in threads and processes.

    Every method raises UnreachableError where the storage can't be asked, also after all the tries that its
    ``on_store_error`` allows. A write that may or may not have been done recognises itself and is not done twice.
    """

    def __init__(
        self,
        operations: Operations,
        route: Route,
        kind: str,
        key: Key,
        *,
        run_id: str | None = None,
    ) -> None:
        self._operations = operations
        self._route = route
        self._entry = route.storage
        self._key = key
        self._run_id = run_id
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self._key} in {self._entry.name!r}>"

    # Reading

    def __getitem__(self, name: str) -> Any:
        """Return a value, an object of the caller's own; raise NotFoundError, a KeyError, where there is none."""
        return self._decode(self._read(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or the default where there is none or it has expired.

        Raises:
            CorruptError: it can't be read.
        """
        record = self._find(name)
        return default if record is None else self._decode(record)

    def revision(self, name: str) -> int:
        """Return the revision of a value, one more after each change; 0 where there is none.

        A value that is deleted and set again has another revision than any it had before.
        """
        record = self._find(name, payload=False)
        return 0 if record is None else record.revision

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name, payload=False) is not None

    def __iter__(self) -> Iterator[str]:
        for record in self._records(payload=False):
            yield record.ref.name

    def items(self) -> ItemsView[str, Any]:
        """Return a view of names and values, which reads a page at a time."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values, which reads a page at a time."""
        return _Values(self)

    def __len__(self) -> int:
        return self._operations.read(self._entry, lambda storage: storage.count(self._query))

    # Writing

    def set(self, name: str, value: object, *, if_revision: int | None = None) -> int:
        """Store a value and return its revision.

        Args:
            if_revision: ``None`` replaces what is there; 0 stores only where nothing is; n replaces only revision n.

        Raises:
            SerializationError: the value can't be stored; what was there before still is.
            ConflictError: the condition does not hold; ``current`` is the record that is there.
            OutcomeUnknownError: the connection broke, and others have changed the value since: whether it held the
                given one in between can't be told.
        """
        return self._put(name, value, if_revision).revision

    def __setitem__(self, name: str, value: object) -> None:
        self._put(name, value, None)

    def update(  # type: ignore[override]
        self, name: str, function: Callable[[Any], object], default: Any = None
    ) -> Any:
        """Replace a value by what a function makes of it, and return that. No concurrent change is lost.

        Args:
            function: takes the present value, or a copy of the default where there is none, and returns the new one. It
                is called again, with the value of that time, each time that another writer was faster.

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
                # Writers that try again all at once would meet again.
                time.sleep(random.uniform(0, longest))
                longest = min(2 * longest, _LONGEST_PAUSE)
            else:
                return value

    def get_or_set(self, name: str, default: Any) -> Any:
        """Return a value; where there is none, store the default. Of several callers one stores, and all get its value.

        Args:
            default: the value, or a function that makes it, which is called only where there is none.
        """
        patience = self._operations.patience(self._entry)
        while True:
            record = self._find(name, patience=patience)
            if record is not None:
                return self._decode(record)
            value = default() if callable(default) else default
            try:
                return self._decode(self._put(name, value, 0, patience, any_will_do=True))
            except ConflictError:
                continue

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a value; where there is none, store the default. All callers at the same time get one value."""
        return self.get_or_set(name, lambda: default)

    def pop(self, name: str, *default: Any) -> Any:
        """Delete a value and return it, or the default where there is none. Of several callers one gets it.

        Raises:
            NotFoundError: there is none, and no default.
            OutcomeUnknownError: the connection broke, and the value is gone: whether this call or another one has
                deleted it can't be told.
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
            except ConflictError:
                pass
            # Another one was faster.

    def popitem(self) -> tuple[str, Any]:
        """Delete the value that was stored last, and return it with its name; raise KeyError where there is none."""
        latest = replace(self._query, descending=True)
        while True:
            page = self._operations.read(self._entry, lambda storage: storage.scan(latest, limit=1, payload=False))
            if not page.records:
                raise NotFoundError(f"there is nothing in {self!r}")
            name = page.records[0].ref.name
            with suppress(NotFoundError):
                return name, self.pop(name)

    def delete(self, name: str, *, if_revision: int | None = None) -> bool:
        """Delete a value; tell whether there was one.

        Raises:
            ConflictError: it is not at ``if_revision``; ``current`` is the record that is there.
        """
        refuse_readonly(self._route, self._key)
        return self._operations.write(
            self._entry, lambda storage: storage.delete(self._key, self.kind, name, if_revision=if_revision)
        )

    def __delitem__(self, name: str) -> None:
        if not self.delete(name):
            raise NotFoundError(f"no {Ref(self.kind, self._key, name)} is stored")

    def clear(self) -> int:  # type: ignore[override]
        """Delete all values that are there now; return how many there were."""
        refuse_readonly(self._route, self._key)
        seen = list(self._records(payload=False))
        return self._operations.write(self._entry, lambda storage: storage.delete_seen(seen))

    def _facts(self) -> Mapping[str, Any]:
        return {} if self._run_id is None else {"run_id": self._run_id}

    @property
    def _query(self) -> Query:
        key = self._key
        return Query((self.kind,), key.flow_name, key.task_name, key.task_id)

    def _records(self, payload: bool) -> Iterator[Record]:
        return self._operations.listed(self._entry, self._query, payload=payload)

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
                f"the connection broke while {Ref(self.kind, self._key, name)} was deleted, and it is gone:"
                " whether by this call or by another one can't be told"
            )
        return deleted

    def _put(
        self,
        name: str,
        value: object,
        if_revision: int | None,
        patience: Patience | None = None,
        any_will_do: bool = False,
    ) -> Record:
        refuse_readonly(self._route, self._key)
        ref = Ref(self.kind, self._key, name)
        encode = self._operations.pipeline(self._entry).encode
        # Encoded once, also when the write is tried again: its token tells that it is the same write.
        record = made_once(lambda storage: encode(ref, value, {**self._facts(), **times(storage, self._route)}))
        tries = 0

        def write(storage: RecordStorage) -> Record:
            nonlocal tries
            tries += 1
            return storage.put(record(storage), if_revision=if_revision)

        try:
            return self._operations.write(self._entry, write, patience=patience)
        except ConflictError as exc:
            if tries > 1 and not any_will_do and not _came_first(exc.current, if_revision):
                message = f"the connection broke while {ref} was written, and it has been changed since"
                raise OutcomeUnknownError(f"{message}: it may have been written in between, or not") from exc
            raise


def _came_first(current: Record | None, if_revision: int | None) -> bool:
    """Tell whether a record took the place of one that was to follow a revision, so that that one never was there.

    Of one that was to be the first, that can't be told: it may have been there, and deleted since.
    """
    return current is not None and bool(if_revision) and current.revision == (if_revision or 0) + 1


class _Items(ItemsView[str, Any]):
    def __init__(self, documents: Documents) -> None:
        super().__init__(documents)
        self._documents = documents

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for record in self._documents._records(payload=True):
            yield record.ref.name, self._documents._decode(record)


class _Values(ValuesView[Any]):
    def __init__(self, documents: Documents) -> None:
        super().__init__(documents)
        self._documents = documents

    def __iter__(self) -> Iterator[Any]:
        return (self._documents._decode(record) for record in self._documents._records(payload=True))
