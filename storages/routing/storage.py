"""Records in several storages, by what they are and how large."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from flowstore.errors import ConfigurationError, UnreachableError
from flowstore.record import BLOB, RESULT, Key, Page, Query, Record, Ref
from flowstore.storage import Batches, Guarantees, NestedStorage, Readable, RecordStorage, blob_facts

from .children import Children
from .copies import Fallbacks, Mirrors
from .records import RoutedRecords
from .rules import HIDDEN, LARGEST_LIMIT, RoutingRule, Rules

log = logging.getLogger(__name__)


class RoutingStorage(RoutedRecords, Batches):
    """Keep records in other storages, chosen by kind, flow, task or size.

    The home of a record is the storage of the first route that applies to its kind, flow and task and has no
    ``min_size``, else the default. It decides who wins, counts revisions, and is listed. A payload that a route with a
    ``min_size`` sends elsewhere is kept there under another name, while the rest of its record stays at home: a record
    that grows or shrinks keeps its revisions, and leaves no second copy.

    Args:
        storages: by name, the names of declared storages, or entries with ``classname``, ``import``, ``configuration``.
            What a route sends to a storage should be all that is stored there of that kind, flow and task.
        default: the name of the storage for what no route applies to.
        routes: the first one that applies is used.
        write_through: names of storages that get a copy of each record.
        fallback: names of storages to use, in this order, while another one can't be reached.
    """

    guarantees: ClassVar[tuple[Guarantees, ...]] = (
        Guarantees(
            database="the storages that it works on",
            shared_by="machines",
            process_ends="what the storage that keeps it promises",
            server_crashes="what the storage that keeps it promises",
            power_fails="what the storage that keeps it promises",
            one_winner="as the record's home; nothing is won while that can't be reached",
            clock="the default storage's",
            largest_record="what the storage that keeps it promises",
        ),
    )

    def __init__(
        self,
        storages: Mapping[str, NestedStorage],
        default: str,
        routes: Sequence[RoutingRule] = (),
        write_through: Sequence[str] = (),
        fallback: Sequence[str] = (),
    ) -> None:
        given = {
            "storages": storages,
            "default": default,
            "routes": routes,
            "write_through": write_through,
            "fallback": fallback,
        }
        for path, message in self.mistakes_in(given):
            raise ConfigurationError(f"{'.'.join(map(str, path))}: {message}")
        self._default = default
        self._children = Children(storages)
        self._rules = Rules(routes, default)
        self._mirrors = Mirrors(write_through, self._rules, self._children, super().get_many, self._copy_blob)
        self._fallbacks = Fallbacks(fallback, self._rules, self._children, super().get_many, self._put_home)
        self._connected = False

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        known = ", ".join(arguments["storages"])
        routes = list(enumerate(arguments.get("routes", ())))
        named: list[tuple[tuple[Any, ...], str]] = [(("default",), arguments["default"])]
        named += [(("routes", at, "storage"), route.storage) for at, route in routes]
        for argument in ("write_through", "fallback"):
            named += [((argument, at), name) for at, name in enumerate(arguments.get(argument, ()))]
        for path, name in named:
            if name not in arguments["storages"]:
                yield path, f"{name!r} is not among the storages: {known}"
        for at, route in routes:
            if route.min_size is not None and not 0 <= route.min_size <= LARGEST_LIMIT:
                yield ("routes", at, "min_size"), f"must be between 0 and {LARGEST_LIMIT}"

    # Connection

    def describe(self) -> str:
        return f"by {self._default!r} and rules, of {', '.join(self._children.names)}"

    def connect(self) -> None:
        """Connect to all storages, later to unreachable ones with a fallback.

        Raises:
            UnreachableError: one can't be reached, and there is no fallback, or none can.
        """
        failures = 0
        for name in self._children.names:
            try:
                self._children.storage(name)
            except UnreachableError as exc:
                failures += 1
                if not self._fallbacks.names or failures == len(self._children.names):
                    raise
                log.warning("can't reach storage %r, using fallbacks: %s", name, exc)
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False
        self._children.close()

    def is_connected(self) -> bool:
        return self._connected

    def now(self) -> float:
        """Return the time of the default storage, or of a reachable fallback."""
        names = (self._default, *self._fallbacks.names)
        for name in names[:-1]:
            try:
                return self._children.storage(name).now()
            except UnreachableError as exc:
                log.debug("can't read the time of storage %r: %s", name, exc)
        return self._children.storage(names[-1]).now()

    # Records, with their copies

    def get(self, key: Key, kind: str = RESULT, name: str = "", *, payload: bool = True) -> Record:
        if not self._fallbacks.names:
            return super().get(key, kind, name, payload=payload)
        ref = Ref(kind, key, name)
        pending = self._fallbacks.find([ref]).get(ref)
        try:
            if pending is not None:
                self._settle([ref])
            return super().get(key, kind, name, payload=payload)
        except UnreachableError:
            found = pending or self._fallbacks.copy_in_mirror(ref, self._mirrors.names)
            if found is None:
                raise  # it may be stored at home: NotFoundError would be wrong
            return found if payload else Record(ref, b"", found.headers, found.revision)

    def get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        if not self._fallbacks.names:
            return super().get_many(refs)
        pending = self._fallbacks.find(refs)
        try:
            self._settle(pending)
            return super().get_many(refs)
        except UnreachableError:
            found = [pending.get(ref) or self._fallbacks.copy_in_mirror(ref, self._mirrors.names) for ref in refs]
            if None in found:
                raise
            return found

    def put(self, record: Record, *, if_revision: int | None = None, now: float | None = None) -> Record:
        try:
            self._settle([record.ref])
            stored = super().put(record, if_revision=if_revision, now=now)
        except UnreachableError as exc:
            if if_revision is not None or not self._fallbacks.names:
                raise  # only the home decides who wins
            return self._fallbacks.write(record, exc)
        self._mirrors.write({stored.ref: stored})
        return stored

    def put_latest(self, record: Record, *, now: float | None = None) -> Record | None:
        try:
            return super().put_latest(record, now=now)
        except UnreachableError:
            if not self._fallbacks.names:
                raise
            # Which one is the latest is decided when it moves home.
            self.put(record)
            return None

    def put_many(self, records: Sequence[Record]) -> list[Record]:
        try:
            self._settle(self._found(record.ref for record in records))
            stored = super().put_many(records)
        except UnreachableError:
            if not self._fallbacks.names:
                raise
            return [self.put(record) for record in records]
        self._mirrors.write({one.ref: one for one in stored})
        return stored

    def add_many(self, records: Sequence[Record], *, as_they_are: bool = False) -> list[Record | None]:
        self._settle(self._found(record.ref for record in records))
        found = super().add_many(records, as_they_are=as_they_are)
        if self._mirrors.names:
            added = [one.ref for one, standing in zip(records, found, strict=True) if standing is None]
            self._mirrors.write(dict(zip(added, super().get_many(added), strict=True)))
        return found

    def delete(self, key: Key, kind: str = RESULT, name: str = "", *, if_revision: int | None = None) -> bool:
        ref = Ref(kind, key, name)
        self._settle([ref])
        deleted = super().delete(key, kind, name, if_revision=if_revision)
        self._mirrors.write({ref: None})
        return deleted

    def delete_many(self, refs: Sequence[Ref]) -> int:
        self._settle(self._found(refs))
        deleted = super().delete_many(refs)
        self._mirrors.write(dict.fromkeys(refs))
        return deleted

    def delete_seen(self, records: Sequence[Record]) -> int:
        refs = [record.ref for record in records]
        self._settle(self._found(refs))
        deleted = super().delete_seen(records)
        if self._mirrors.names:
            # Records that were stored in the meantime stay, in the mirrors too.
            there = super().get_many(refs) if deleted < len(refs) else [None] * len(refs)
            self._mirrors.write(dict(zip(refs, there, strict=True)))
        return deleted

    def store_blob(
        self,
        key: Key,
        name: str,
        file: Readable,
        *,
        kind: str = BLOB,
        facts: Mapping[str, Any] | None = None,
        raw: bool = False,
        revision: int | None = None,
    ) -> int:
        size = super().store_blob(key, name, file, kind=kind, facts=facts, raw=raw, revision=revision)
        if self._mirrors.names:
            ref = Ref(kind, key, name)
            self._mirrors.write({ref: super().get_many([ref])[0]})
        return size

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if cursor is None:
            self._settle_all(query)
        return super()._scan(query, cursor, limit, payload)

    def _count(self, query: Query) -> int:
        self._settle_all(query)
        return super()._count(query)

    def settle(self) -> int:
        """Move all records in fallbacks to their homes; return how many.

        Reading and writing a record moves it too.

        Raises:
            UnreachableError: a storage still can't be reached.
        """
        return self._settle_all(Query())

    def _settle_all(self, query: Query) -> int:
        if not self._fallbacks.names:
            return 0
        moved = self._fallbacks.settle_all(query)
        self._mirrors.write(moved)
        return len(moved)

    def _settle(self, refs: Sequence[Ref] | Mapping[Ref, Record]) -> None:
        if self._fallbacks.names and refs:
            self._mirrors.write(self._fallbacks.settle(refs))

    def _found(self, refs: Iterator[Ref] | Sequence[Ref]) -> Mapping[Ref, Record]:
        return self._fallbacks.find(list(refs)) if self._fallbacks.names else {}

    def _put_home(self, record: Record, if_revision: int) -> Record:
        return super().put(record, if_revision=if_revision)

    def _copy_blob(self, head: Record, storage: RecordStorage) -> None:
        ref = head.ref
        with self.retrieve_blob(ref.key, ref.name, kind=ref.kind, raw=True) as file:
            storage.store_blob(ref.key, ref.name, file, kind=ref.kind, facts=blob_facts(head), raw=True)

    def _purge(self) -> int:
        deleted = super()._purge()
        for name in self._children.names:
            for record in self._children.scan(name, Query(kinds=HIDDEN)):
                self._children.storage(name).delete(record.key, record.kind, record.ref.name)
        return deleted
