"""Caches of results, one per storage that configures one."""

from __future__ import annotations

import copy
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cachetools

from flowstore.config import CacheEntry, Configuration
from flowstore.forks import renew_in_children
from flowstore.interrupts import is_interrupt
from flowstore.record import Record, Ref

log = logging.getLogger(__name__)


class _LIFO(cachetools.Cache[Any, Any]):
    def popitem(self) -> tuple[Any, Any]:
        key = next(reversed(list(self)))
        return key, self.pop(key)


class _MRU(cachetools.Cache[Any, Any]):
    """Evict the item that was used last."""

    def __init__(self, maxsize: float) -> None:
        super().__init__(maxsize)
        self._order: dict[Any, None] = {}

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        self._touch(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._touch(key)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        del self._order[key]

    def popitem(self) -> tuple[Any, Any]:
        key = next(reversed(self._order))
        return key, self.pop(key)

    def _touch(self, key: Any) -> None:
        self._order.pop(key, None)
        self._order[key] = None


_CLASSES: dict[str, Callable[[CacheEntry], cachetools.Cache[Any, Any]]] = {
    "LRU": lambda entry: cachetools.LRUCache(entry.size),
    "FIFO": lambda entry: cachetools.FIFOCache(entry.size),
    "LIFO": lambda entry: _LIFO(entry.size),
    "MRU": lambda entry: _MRU(entry.size),
    "RR": lambda entry: cachetools.RRCache(entry.size),
    "TTL": lambda entry: cachetools.TTLCache(entry.size, entry.ttl or 0),
}


class ResultCache:
    """Cache what was read from a storage. Thread-safe; empty after a fork.

    Never returns an older value than this process has stored: ``put`` takes the generation from before the read, and
    does nothing if anything has been dropped since. It does not notice what other processes store.
    """

    def __init__(self, entry: CacheEntry) -> None:
        self._entry = entry
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Start empty, with a new lock."""
        self._lock = threading.Lock()
        self._items = _CLASSES[self._entry.classname](self._entry)
        self.generation = 0

    def get(self, key: Any) -> Any | None:
        """Return the cached value of a key, or None."""
        with self._lock:
            return self._items.get(key)

    def put(self, key: Any, value: Any, generation: int) -> None:
        """Cache a value, unless anything was dropped since ``generation``."""
        with self._lock:
            if generation == self.generation:
                self._items[key] = value

    def clear(self) -> None:
        """Drop everything, and ignore reads in progress."""
        with self._lock:
            self.generation += 1
            self._items = _CLASSES[self._entry.classname](self._entry)

    def drop(self, key: Any) -> None:
        """Drop a key, and ignore reads in progress."""
        with self._lock:
            self.generation += 1
            self._items.pop(key, None)


class Caches:
    """The caches of all storages, by the name of the storage.

    Args:
        now: returns the time of a storage. It is called only for records that expire.
    """

    def __init__(self, configuration: Configuration, now: Callable[[str], float]) -> None:
        self._caches = {
            name: ResultCache(entry.cache) for name, entry in configuration.storages.items() if entry.cache is not None
        }
        self._now = now

    def __contains__(self, storage: str) -> bool:
        return storage in self._caches

    def get(self, storage: str, ref: Ref) -> Record | tuple[Any] | None:
        """Return a cached record; None if missing or expired.

        For a plain ``DataStorage`` it is a tuple that holds the value.
        """
        cache = self._caches.get(storage)
        kept: Record | tuple[Any] | None = None if cache is None else cache.get(ref)
        if isinstance(kept, Record) and kept.expires_at is not None and kept.has_expired(self._now(storage)):
            self.drop(storage, ref)
            return None
        return kept

    def get_many(
        self,
        storage: str,
        refs: Sequence[Ref],
        read: Callable[[list[Ref]], Iterable[Record | None]],
        run_id: str | None = None,
    ) -> dict[bytes, Record]:
        """Return records by address, reading those that aren't cached.

        Missing records are left out.

        Args:
            read: reads records from the storage.
            run_id: cached records of other runs are read again.
        """
        found: dict[bytes, Record] = {}
        if storage in self._caches:
            for ref in refs:
                cached = self.get(storage, ref)
                if isinstance(cached, Record) and run_id in (None, cached.run_id):
                    found[ref.address] = cached
        missing = list({ref.address: ref for ref in refs if ref.address not in found}.values())
        if missing:
            keep = self.begin_read(storage)
            for record in read(missing):
                if record is not None:
                    found[record.ref.address] = record
                    keep(record.ref, record)
        return found

    def begin_read(self, storage: str) -> Callable[[Ref, Record | tuple[Any]], None]:
        """Return a function that caches what is read from now on."""
        cache = self._caches.get(storage)
        if cache is None:
            return lambda ref, kept: None
        return functools.partial(_keep, cache, cache.generation)

    def drop(self, storage: str, ref: Ref) -> None:
        """Drop the record of a reference."""
        cache = self._caches.get(storage)
        if cache is not None:
            cache.drop(ref)

    def clear(self, storage: str) -> None:
        """Drop all records of a storage."""
        cache = self._caches.get(storage)
        if cache is not None:
            cache.clear()


def _keep(cache: ResultCache, generation: int, ref: Ref, kept: Record | tuple[Any]) -> None:
    try:
        cache.put(ref, kept if isinstance(kept, Record) else copy.deepcopy(kept), generation)
    except Exception as exc:
        if is_interrupt(exc):
            raise
        # No harm: a value that can't be copied is read from the storage each time.
        log.debug("can't cache %s", ref, exc_info=True)
