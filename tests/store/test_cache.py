"""Caches of results: which one makes room, and never an older value after a store or delete of this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowstore import FlowStore, NotFoundError, Record
from flowstore.config import CacheEntry
from flowstore.storages import MemoryStorage
from flowstore.store.cache import ResultCache


def filled(classname: Any, size: int = 3, ttl: float | None = None) -> ResultCache:
    cache = ResultCache(CacheEntry(classname, size, ttl))
    for key in "abc":
        cache.put(key, key.upper(), cache.generation)
    return cache


def kept(cache: ResultCache) -> str:
    return "".join(key for key in "abcdef" if cache.get(key) is not None)


@pytest.mark.parametrize(
    ("classname", "rest"),
    [
        ("LRU", "acd"),  # b was used least recently
        ("FIFO", "bcd"),  # a came first
        ("LIFO", "abd"),  # c came last
        ("MRU", "bcd"),  # a was used most recently
    ],
)
def test_the_one_that_makes_room_is_that_of(classname: str, rest: str) -> None:
    cache = filled(classname)
    assert cache.get("c") == "C"
    assert cache.get("a") == "A"
    cache.put("d", "D", cache.generation)
    assert kept(cache) == rest


def test_a_random_one_makes_room_under_rr() -> None:
    seen = set()
    for _ in range(300):
        cache = filled("RR")
        cache.put("d", "D", cache.generation)
        assert cache.get("d") == "D"
        seen.add(kept(cache))
    assert seen == {"bcd", "acd", "abd"}


@pytest.mark.parametrize("classname", ["LRU", "FIFO", "LIFO", "MRU", "RR"])
def test_replacing_makes_no_room_and_size_one_works(classname: str) -> None:
    cache = filled(classname)
    cache.put("b", "new", cache.generation)
    assert kept(cache) == "abc"
    assert cache.get("b") == "new"
    small = ResultCache(CacheEntry(classname, 1))  # type: ignore[arg-type]
    for key in "abc":
        small.put(key, key, small.generation)
        assert small.get(key) == key
    assert kept(small) == "c"


@pytest.mark.parametrize("classname", ["LRU", "FIFO", "LIFO", "MRU", "RR", "TTL"])
def test_drop_forgets_and_makes_room(classname: str) -> None:
    cache = filled(classname, ttl=1000)
    cache.drop("b")
    cache.drop("never there")
    cache.put("d", "D", cache.generation)
    assert kept(cache) == "acd"


def test_ttl_forgets_after_its_time() -> None:
    cache = filled("TTL", ttl=0.05)
    deadline = time.monotonic() + 30
    while kept(cache):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_value_read_before_a_drop_is_not_kept() -> None:
    cache = filled("LRU")
    generation = cache.generation
    cache.drop("a")
    cache.put("a", "old", generation)
    assert cache.get("a") is None


class Counting(MemoryStorage):
    reads = 0

    def _get(self, ref: Any, payload: bool) -> Record | None:
        type(self).reads += 1
        return super()._get(ref, payload)


@contextmanager
def opened(classname: str = "LRU", **entry: Any) -> Iterator[FlowStore]:
    Counting.reads = 0
    store = FlowStore(
        {
            "storages": [
                {"name": "Counting", "import": __name__, "cache": {"classname": classname, "size": 8}, **entry}
            ],
            "global": {"default_storage": "Counting"},
        }
    )
    yield store
    store.close()


def test_what_was_read_is_read_once_and_is_the_callers_own() -> None:
    with opened() as store:
        store.store("f", "t", "1", {"a": [1]})
        first = store.retrieve("f", "t", "1")
        first["a"].append(2)
        assert store.retrieve("f", "t", "1") == {"a": [1]}
        assert Counting.reads == 1


def test_none_is_a_value_and_a_miss_is_not_kept() -> None:
    with opened() as store:
        with pytest.raises(NotFoundError):
            store.retrieve("f", "t", "1")
        store.store("f", "t", "1", None)
        assert store.retrieve("f", "t", "1") is None
        assert store.retrieve("f", "t", "1", default="d") is None
        assert Counting.reads == 2


def test_a_store_and_a_delete_are_seen_at_once() -> None:
    with opened() as store:
        for value in (1, 2):
            store.store("f", "t", "1", value)
            assert store.retrieve("f", "t", "1") == value
        assert store.delete("f", "t", "1")
        with pytest.raises(NotFoundError):
            store.retrieve("f", "t", "1")


@pytest.mark.parametrize("classname", ["LRU", "FIFO", "LIFO", "MRU", "RR"])
def test_racing_threads_never_see_a_value_older_than_one_stored_before(classname: str) -> None:
    rounds, done = 400, threading.Event()
    newest, wrong = [-1], []

    def read(store: FlowStore) -> None:
        while not done.is_set():
            at_least = newest[0]
            seen = store.retrieve("f", "t", "1", default=-1)
            if seen < at_least:
                wrong.append((seen, at_least))

    with opened(classname) as store:
        readers = [threading.Thread(target=read, args=(store,)) for _ in range(4)]
        for reader in readers:
            reader.start()
        for number in range(rounds):
            store.store("f", "t", "1", number)
            newest[0] = number
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []


def test_a_forked_child_starts_with_an_empty_cache_and_a_free_lock() -> None:
    cache = filled("LRU")
    with cache._lock:  # as another thread might hold it
        child = os.fork()
        if child == 0:
            empty = kept(cache) == ""
            cache.put("d", "D", cache.generation)
            os._exit(0 if empty and cache.get("d") == "D" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert kept(cache) == "abc"
