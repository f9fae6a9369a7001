"""Copies of records in mirrors, and records in fallbacks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from flowstore.errors import ConflictError, NotFoundError, StorageError, UnreachableError
from flowstore.record import BLOB, Query, Record, Ref
from flowstore.storage import RecordStorage, is_earlier_attempt

from .children import Children
from .rules import PENDING, Rules

log = logging.getLogger(__name__)

Known = Mapping[Ref, Record | None]
"""Records by reference, blobs without their bytes; None for missing ones."""

Read = Callable[[Sequence[Ref]], list[Record | None]]


class _Copies:
    """What keeps records in storages that are not their homes.

    Args:
        at_home: reads records from their homes.
    """

    def __init__(self, names: Sequence[str], rules: Rules, children: Children, at_home: Read) -> None:
        self.names = names
        self._rules = rules
        self._children = children
        self._at_home = at_home


class Mirrors(_Copies):
    """Keep copies of records in further storages.

    Args:
        at_home: reads records from their homes.
        copy_blob: copies a blob from its home to a storage.
    """

    def __init__(
        self,
        names: Sequence[str],
        rules: Rules,
        children: Children,
        at_home: Read,
        copy_blob: Callable[[Record, RecordStorage], None],
    ) -> None:
        super().__init__(names, rules, children, at_home)
        self._copy_blob = copy_blob

    def write(self, known: Known) -> None:
        """Repeat what has just been written or deleted at home.

        Raises:
            StorageError: some mirrors failed; names them. The home has all changes.
        """
        if not known:
            return
        failed: dict[str, StorageError] = {}
        for name in self.names:
            try:
                self._write(name, {ref: one for ref, one in known.items() if self._rules.home(ref) != name})
            except StorageError as exc:
                failed[name] = exc
        if failed:
            first = next(iter(failed.values()))
            kind = (
                UnreachableError if all(isinstance(exc, UnreachableError) for exc in failed.values()) else StorageError
            )
            what = next(iter(known)) if len(known) == 1 else f"{len(known)} records"
            mirrors = ", ".join(map(repr, failed))
            raise kind(f"{what} changed at home, but not in the write_through storage {mirrors}: {first}") from first

    def _write(self, name: str, known: Known) -> None:
        # Of two writers, the first at home may be the last here. So each one reads the home again after it has written:
        # the last one to do so leaves the last record.
        storage = self._children.storage(name)
        while known:
            records = [one for one in known.values() if one is not None and BLOB not in one.headers]
            if records:
                storage.put_many(records)
            for one in known.values():
                if one is not None and BLOB in one.headers:
                    self._copy_blob(one, storage)
            gone = [ref for ref, one in known.items() if one is None]
            if gone:
                storage.delete_many(gone)
            current = dict(zip(known, self._at_home(list(known)), strict=True))
            known = {ref: one for ref, one in current.items() if _revision(one) != _revision(known[ref])}


def _revision(record: Record | None) -> int | None:
    return None if record is None else record.revision


class Fallbacks(_Copies):
    """Keep records in another storage while their home can't be reached.

    They move to their home later.

    Args:
        at_home: reads records from their homes.
        put_home: writes a record to its home, over a revision.
    """

    def __init__(
        self,
        names: Sequence[str],
        rules: Rules,
        children: Children,
        at_home: Read,
        put_home: Callable[[Record, int], Record],
    ) -> None:
        super().__init__(names, rules, children, at_home)
        self._put_home = put_home

    def write(self, record: Record, cause: UnreachableError) -> Record:
        """Write a record to the first fallback that can be reached.

        Raises:
            UnreachableError: the cause, if no fallback can be reached.
        """
        home = self._rules.home(record.ref)
        for name in self.names:
            if name == home:
                continue
            try:
                stored = self._children.storage(name).put(Record(_place(record.ref), record.payload, record.headers))
            except UnreachableError as exc:
                log.warning("can't reach fallback %r either: %s", name, exc)
            else:
                log.warning("stored %s in fallback %r: %s", record.ref, name, cause)
                return record.at(stored.revision)
        raise cause

    def find(self, refs: Sequence[Ref]) -> dict[Ref, Record]:
        """Return the records of some references in fallbacks that can be reached."""
        found: dict[Ref, Record] = {}
        for name in self.names:
            try:
                pending = self._children.storage(name).get_many([_place(ref) for ref in refs])
            except UnreachableError as exc:
                log.warning("can't read fallback %r: %s", name, exc)
                continue
            for one in pending:
                if one is not None:
                    record = _record_of(one)
                    other = found.get(record.ref)
                    if other is None or other.stored_at < record.stored_at:
                        found[record.ref] = record
        return found

    def settle(self, refs: Iterable[Ref]) -> dict[Ref, Record | None]:
        """Move records from fallbacks to their homes; return the moved ones.

        Raises:
            UnreachableError: a home, or the storage of a payload, still can't be reached.
        """
        moved: dict[Ref, Record | None] = {}
        for ref in refs:
            for name in self.names:
                while (pending := self._pending(name, ref)) is not None and not self._settle(name, pending, moved):
                    pass
        return moved

    def settle_all(self, query: Query) -> dict[Ref, Record | None]:
        """Move home what a query may select; return the moved records."""
        homes = self._rules.homes(query)
        found = {
            _record_of(pending).ref: None
            for name in self.names
            for pending in self._children.scan(name, Query(kinds=(PENDING,)))
        }
        return self.settle(ref for ref in found if self._rules.home(ref) in homes)

    def copy_in_mirror(self, ref: Ref, mirrors: Sequence[str]) -> Record | None:
        """Return the copy of a record in a fallback that is a mirror too."""
        for name in self.names:
            if name in mirrors and name != self._rules.home(ref):
                try:
                    return self._children.storage(name).get(ref.key, ref.kind, ref.name)
                except (NotFoundError, UnreachableError):
                    continue
        return None

    def _pending(self, name: str, ref: Ref) -> Record | None:
        place = _place(ref)
        try:
            return self._children.storage(name).get(place.key, place.kind, place.name)
        except NotFoundError:
            return None
        except UnreachableError as exc:
            log.warning("can't read fallback %r: %s", name, exc)
            return None

    def _settle(self, name: str, pending: Record, moved: dict[Ref, Record | None]) -> bool:
        """Move a record to its home; return False if another writer was faster."""
        record, place = _record_of(pending), pending.ref
        current = self._at_home([record.ref])[0]
        try:
            if _is_newer(record, current):
                moved[record.ref] = self._put_home(record, 0 if current is None else current.revision)
            self._children.storage(name).delete(place.key, place.kind, place.name, if_revision=pending.revision)
        except ConflictError:
            return False  # another writer has changed the record, here or at home
        return True


def _is_newer(record: Record, current: Record | None) -> bool:
    """Return whether a record in a fallback has to replace the one at home."""
    if current is None:
        return True
    if is_earlier_attempt(record, current):
        return False
    if current.stored_at > record.stored_at:
        return False  # stored later, by a writer that reached the home
    # The same write may have arrived after all, or been moved by a process that was killed then.
    return not record.is_same_write(current)


def _place(ref: Ref) -> Ref:
    """Return the reference of a record in a fallback."""
    return Ref(PENDING, ref.key, json.dumps([ref.kind, ref.name], ensure_ascii=False))


def _record_of(pending: Record) -> Record:
    """Return the record that a fallback keeps."""
    kind, name = json.loads(pending.ref.name)
    return Record(Ref(kind, pending.key, name), pending.payload, pending.headers, pending.revision)
