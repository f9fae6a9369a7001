"""The keys of records in a bucket, and the markers that list them by time."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from flowstore.record import PIECE, Query
from flowstore.storages.shared.envelope import Stored
from flowstore.storages.shared.headers import bad_cursor
from flowstore.storages.shared.names import Location, key_hashes, kind_folder

if TYPE_CHECKING:
    from .bucket import Bucket

_LEAF: Final = re.compile(r"([0-9a-f]{16})\.([a-z][a-z0-9_-]{0,59}|0[0-9a-f]{64})\.([0-9a-f]{16}-[0-9a-f]{64})")
_NAME: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}")
_KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,59}|0[0-9a-f]{64}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")

_Found = tuple[str, str | None]
"""A leaf, and the marker that it was found by; None if it was found without one."""


class Index:
    """The keys of objects, and the markers by which they are listed.

    ``records/<kind>/<name>`` is a record. ``index/flows/<kind>/<flow>/<leaf>`` and ``index/runs/<run>/<leaf>`` are
    markers: empty objects whose names sort by time. A marker is written before its record and deleted after it, so that
    no record lacks its markers. A marker counts only if its record agrees: stale ones, of writers and deleters that
    died, are ignored.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix

    def record(self, place: Location) -> str:
        """Return the key of a record's object."""
        return f"{self._prefix}records/{place.kind}/{place.name}"

    def markers(self, stored: Stored) -> list[str]:
        """Return the keys of a record's markers: of its flow and its run."""
        record, place = stored.record, Location.of(stored.record.ref)
        leaf = leaf_of(place, stored.created)
        markers = [f"{self._prefix}index/flows/{place.kind}/{_hash(record.key.flow_name)}/{leaf}"]
        if record.run_id is not None:
            markers.append(f"{self._prefix}index/runs/{_hash(record.run_id)}/{leaf}")
        return markers

    def mark(self, marker: str) -> None:
        """Write a marker."""
        self._bucket.put(marker, b"", content_type="text/plain")

    def find(self, query: Query, after: str | None, created: Callable[[Location], int | None]) -> Iterator[_Found]:
        """Iterate over the leaves that a query may select, in its order.

        Args:
            after: the leaf after which to begin.
            created: returns when the record in a place was first stored; None if missing.
        """
        kinds = None if query.kinds is None else {kind_folder(kind) for kind in query.kinds}
        keys = key_hashes(query)
        if keys is not None and len(keys) == 1:
            return self._of_key(keys.pop(), query, kinds, after, created)
        return (
            (leaf, marker)
            for leaf, marker in self._marked(query, kinds, after)
            if (found := _LEAF.fullmatch(leaf))
            and (kinds is None or found[2] in kinds)
            and (keys is None or found[3][:16] in keys)
        )

    def everything(self) -> Iterator[tuple[str, bool]]:
        """Iterate over the keys of all records, then of all markers.

        Each comes with whether it counts as a record: markers of flows do, except those of pieces.
        """
        records, flows, runs = (f"{self._prefix}{name}/" for name in ("records", "index/flows", "index/runs"))
        for key in self._bucket.keys(records):
            kind, _, name = key[len(records) :].partition("/")
            if _KIND.fullmatch(kind) and _NAME.fullmatch(name):
                yield key, False
        for key in self._bucket.keys(flows):
            kind, _, marker = key[len(flows) :].partition("/")
            if _KIND.fullmatch(kind) and _is_marker(marker):
                yield key, kind != PIECE
        for key in self._bucket.keys(runs):
            if _is_marker(key[len(runs) :]):
                yield key, False

    def _of_key(
        self,
        key: str,
        query: Query,
        kinds: set[str] | None,
        after: str | None,
        created: Callable[[Location], int | None],
    ) -> Iterator[_Found]:
        leaves = []
        for kind in self._bucket.folders(f"{self._prefix}records/") if kinds is None else kinds:
            folder = f"{self._prefix}records/{kind}/"
            for name in self._bucket.keys(f"{folder}{key}-"):
                place = Location(kind, name[len(folder) :])
                if _NAME.fullmatch(place.name) and (time := created(place)) is not None:
                    leaves.append(leaf_of(place, time))
        for leaf in sorted(leaves, reverse=query.descending):
            if after is None or (leaf < after if query.descending else leaf > after):
                yield leaf, None

    def _marked(self, query: Query, kinds: set[str] | None, after: str | None) -> Iterator[_Found]:
        if query.run_id is not None:
            folders = [f"{self._prefix}index/runs/{_hash(query.run_id)}/"]
        else:
            folders = [
                f"{self._prefix}index/flows/{kind}/{flow}/"
                for kind in (self._bucket.folders(f"{self._prefix}index/flows/") if kinds is None else sorted(kinds))
                for flow in (
                    self._bucket.folders(f"{self._prefix}index/flows/{kind}/")
                    if query.flow_name is None
                    else [_hash(query.flow_name)]
                )
            ]
        if not query.descending:
            return heapq.merge(*(self._leaves(folder, after) for folder in folders))
        # A bucket lists in one direction only.
        found = [one for folder in folders for one in self._leaves(folder, None) if after is None or one[0] < after]
        return iter(sorted(found, reverse=True))

    def _leaves(self, folder: str, after: str | None) -> Iterator[tuple[str, str]]:
        for key in self._bucket.keys(folder, folder + after if after else ""):
            yield key[len(folder) :], key


def _is_marker(name: str) -> bool:
    """Return whether a name is the end of a marker's key: a hash and a leaf."""
    of, _, leaf = name.partition("/")
    return bool(_HASH.fullmatch(of) and _LEAF.fullmatch(leaf))


def leaf_of(place: Location, created: int) -> str:
    """Return the last part of a marker's key, by which listings are sorted."""
    return f"{created:016x}.{place.kind}.{place.name}"


def read_leaf(leaf: str) -> tuple[int, Location]:
    """Return when the record of a leaf was first stored, and its place.

    Raises:
        StorageError: the text is not a leaf, and so not a cursor.
    """
    found = _LEAF.fullmatch(leaf)
    if found is None:
        raise bad_cursor(leaf)
    return int(found[1], 16), Location(found[2], found[3])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
