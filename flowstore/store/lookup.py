"""Many records of one storage by their references, in a few round trips, through its cache."""

from __future__ import annotations

from collections.abc import Sequence

from flowstore.config import StorageEntry
from flowstore.record import Record, Ref
from flowstore.store.operations import Operations


class Lookup:
    """Read records that the caller knows the references of. Safe in threads."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def records(self, entry: StorageEntry, refs: Sequence[Ref], run_id: str | None = None) -> dict[bytes, Record]:
        """Return what there is, by address: hashing and comparing references takes longer.

        Args:
            run_id: what the cache holds of other runs is not taken.
        """
        caches = self._operations.caches
        found: dict[bytes, Record] = {}
        if entry.name in caches:
            for ref in refs:
                kept = caches.get(entry.name, ref)
                if isinstance(kept, Record) and run_id in (None, kept.run_id):
                    found[ref.address] = kept
        missing = list({ref.address: ref for ref in refs if ref.address not in found}.values())
        if missing:
            keep = caches.keeper(entry.name)
            for record in self._operations.read(entry, lambda storage: storage.get_many(missing)):
                if record is not None:
                    found[record.ref.address] = record
                    keep(record.ref, record)
        return found
