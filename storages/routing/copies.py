"""Second places of records: those that are written through to, and those to fall back to."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from flowstore.errors import ConflictError, NotFoundError, StorageError, UnreachableError
from flowstore.record import BLOB, Query, Record, Ref
from flowstore.storage import RecordStorage, is_earlier_attempt

from .children import Children
from .rules import STRAY, Rules

log = logging.getLogger(__name__)

Known = Mapping[Ref, Record | None]
"""What is stored under references: whole records, blobs without their bytes, ``None`` where nothing is."""

Look = Callable[[Sequence[Ref]], list[Record | None]]


class Mirrors:
    """Keep copies of records in further storages.

    Args:
        at_home: reads records where they belong.
        copy_blob: stores a blob that is at home in a storage too.
    """

    def __init__(
        self,
        names: Sequence[str],
        rules: Rules,
        children: Children,
        at_home: Look,
        copy_blob: Callable[[Record, RecordStorage], None],
    ) -> None:
        self.names = names
        self._rules = rules
        self._children = children
        self._at_home = at_home
        self._copy_blob = copy_blob

    def write(self, known: Known) -> None:
        """Write or delete what has just been written or deleted at home.

        Raises:
            StorageError: some could not be; names the storages. At home all of it is done.
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
            told = f"{what} changed at home, but not in {', '.join(map(repr, failed))}, where it is written through to"
            raise kind(f"{told}: {first}") from first

    def _write(self, name: str, known: Known) -> None:
        # Of two writers, the one that was first at home may be last here. So each looks afterwards whether what it
        # wrote is what is at home still: the last one to look leaves the last record.
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


class Strays:
    """Keep records in another storage while their own can't be reached, and move them home afterwards.

    Args:
        at_home: reads records where they belong.
        put_home: writes a record where it belongs, over a revision.
    """

    def __init__(
        self,
        names: Sequence[str],
        rules: Rules,
        children: Children,
        at_home: Look,
        put_home: Callable[[Record, int], Record],
    ) -> None:
        self.names = names
        self._rules = rules
        self._children = children
        self._at_home = at_home
        self._put_home = put_home

    def write(self, record: Record, cause: UnreachableError) -> Record:
        """Write a record to the first storage that can be reached.

        Raises:
            UnreachableError: the cause, where none can.
        """
        home = self._rules.home(record.ref)
        for name in self.names:
            if name == home:
                continue
            try:
                stored = self._children.storage(name).put(Record(_place(record.ref), record.payload, record.headers))
            except UnreachableError as exc:
                log.warning("the fallback %r can't be reached either: %s", name, exc)
            else:
                log.warning("%s is kept in %r for now: %s", record.ref, name, cause)
                return record.at(stored.revision)
        raise cause

    def find(self, refs: Sequence[Ref]) -> dict[Ref, Record]:
        """Return what was written to fallbacks under some references; those that can't be reached are passed over."""
        found: dict[Ref, Record] = {}
        for name in self.names:
            try:
                strays = self._children.storage(name).get_many([_place(ref) for ref in refs])
            except UnreachableError as exc:
                log.warning("the fallback %r can't be asked for what was written to it: %s", name, exc)
                continue
            for stray in strays:
                if stray is not None:
                    record = _record_of(stray)
                    other = found.get(record.ref)
                    if other is None or other.stored_at < record.stored_at:
                        found[record.ref] = record
        return found

    def settle(self, refs: Iterable[Ref]) -> dict[Ref, Record | None]:
        """Move home what was written to fallbacks; return what was moved.

        Raises:
            UnreachableError: the home of one, or where its payload belongs, can't be reached still.
        """
        moved: dict[Ref, Record | None] = {}
        for ref in refs:
            for name in self.names:
                while (stray := self._stray(name, ref)) is not None and not self._settle(name, stray, moved):
                    pass
        return moved

    def settle_all(self, query: Query) -> dict[Ref, Record | None]:
        """Move home all that belongs to where a query will look; return what was moved."""
        homes = self._rules.homes(query)
        found = {
            _record_of(stray).ref: None
            for name in self.names
            for stray in self._children.scan(name, Query(kinds=(STRAY,)))
        }
        return self.settle(ref for ref in found if self._rules.home(ref) in homes)

    def copy_in_mirror(self, ref: Ref, mirrors: Sequence[str]) -> Record | None:
        """Return the copy of a record that was written through to a fallback."""
        for name in self.names:
            if name in mirrors and name != self._rules.home(ref):
                try:
                    return self._children.storage(name).get(ref.key, ref.kind, ref.name)
                except (NotFoundError, UnreachableError):
                    continue
        return None

    def _stray(self, name: str, ref: Ref) -> Record | None:
        place = _place(ref)
        try:
            return self._children.storage(name).get(place.key, place.kind, place.name)
        except NotFoundError:
            return None
        except UnreachableError as exc:
            log.warning("the fallback %r can't be asked for what was written to it: %s", name, exc)
            return None

    def _settle(self, name: str, stray: Record, moved: dict[Ref, Record | None]) -> bool:
        """Move one record home; tell whether that is done, and not to be tried again."""
        record, place = _record_of(stray), stray.ref
        current = self._at_home([record.ref])[0]
        try:
            if _is_newer(record, current):
                moved[record.ref] = self._put_home(record, 0 if current is None else current.revision)
            self._children.storage(name).delete(place.key, place.kind, place.name, if_revision=stray.revision)
        except ConflictError:
            return False  # somebody has written the record, here or there, meanwhile
        return True


def _is_newer(record: Record, current: Record | None) -> bool:
    """Tell whether what was written to a fallback has to replace what is at home."""
    if current is None:
        return True
    if is_earlier_attempt(record, current):
        return False
    if current.stored_at > record.stored_at:
        return False  # stored later, by somebody who could reach it
    # The same write may have arrived after all, or have been moved by somebody who was killed then.
    return not record.is_same_write(current)


def _place(ref: Ref) -> Ref:
    """Return where a record is kept in a fallback."""
    return Ref(STRAY, ref.key, json.dumps([ref.kind, ref.name], ensure_ascii=False))


def _record_of(stray: Record) -> Record:
    """Return the record that was written to a fallback."""
    kind, name = json.loads(stray.ref.name)
    return Record(Ref(kind, stray.key, name), stray.payload, stray.headers, stray.revision)
