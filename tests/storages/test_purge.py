"""Emptying a place, in every kind of storage: everything of flowstore's goes, nothing of anybody else's."""

from __future__ import annotations

import io

import pytest

import flowstore.storages
from flowstore.record import CLAIM, ERROR, HISTORY, RUN, VARIABLE, Key, Query
from flowstore.storage import RecordStorage
from flowstore.testing import Adapter
from tests.storages.bystanders import beside
from tests.storages.storage_kit import Recipe, record

pytest_plugins = ("tests.storages.every_storage",)

MANY = 1203
"""More than anything deletes in one go."""


def fill(storage: RecordStorage, many: int = 30) -> int:
    """Store records of all kinds; return their number."""
    storage.put_many([record(Key("f", "t", str(number)), number, run_id=f"r{number % 7}") for number in range(many)])
    key = Key("f", "t", "0")
    storage.put(record(key, "expired", ERROR, expires_at=storage.now() - 1, run_id="r"))
    storage.put(record(key, "variable", VARIABLE, "x"))
    storage.put(record(Key("f", "", "r"), None, RUN, run_id="r"))
    storage.put(record(key, "own", "own kind", "é\0"))
    storage.put(record(key, "history", HISTORY, "1"))
    assert storage.claim(key, "claim")
    storage.blob_threshold = 100_000
    storage.put(record(Key("f", "t", "large"), "x" * 150_000))
    storage.store_blob(key, "blob", io.BytesIO(b"y" * 250_000))
    storage.store_blob(key, "small", io.BytesIO(b"y"))
    return many + 9


def test_purge_leaves_nothing_of_ours_and_all_of_others(storage: RecordStorage, recipe: Recipe) -> None:
    bystander = beside(recipe)
    bystander.leave()
    before = bystander.everything()
    for _ in range(2):
        assert storage.purge() == 0
        count = fill(storage, MANY)
        assert storage.purge() == count
        assert bystander.everything() == before
        assert storage.count(Query()) == 0
        assert storage.count(Query(expired_at=storage.now())) == 0
    again = storage.put(record(Key("f", "t", "1"), "again", run_id="r1"))
    assert [one.revision for one in storage.records(Query(run_id="r1"))] == [again.revision]


def test_clear_keeps_what_survives_it(storage: RecordStorage) -> None:
    before = fill(storage)
    large = Key("f", "", "")
    storage.put(record(large, "v" * 150_000, VARIABLE, "large"))
    assert storage.clear() == before - 2
    assert sorted((ref.kind, ref.name) for ref in storage.ids(Query())) == [
        (HISTORY, "1"), (VARIABLE, "large"), (VARIABLE, "x"),
    ]  # fmt: skip
    assert storage.pipeline.decode(storage.get(large, VARIABLE, "large")) == "v" * 150_000
    assert storage.purge(VARIABLE) == 2
    assert [ref.kind for ref in storage.ids(Query())] == [HISTORY]


def test_purge_of_one_kind(storage: RecordStorage) -> None:
    count = fill(storage)
    assert storage.purge("own kind") == 1
    assert storage.purge("own kind") == 0
    assert storage.purge(ERROR) == 1, "one that has expired counts and goes too"
    assert storage.purge(CLAIM) == 1
    assert storage.count(Query()) == count - 3
    assert storage.purge("result") == 31
    assert storage.retrieve_blob(Key("f", "t", "0"), "blob").read() == b"y" * 250_000
    with pytest.raises(ValueError, match="piece"):
        storage.purge("piece")


def test_purge_is_seen_by_others(storage: RecordStorage, recipe: Recipe) -> None:
    if recipe[0] == "MemoryStorage":
        pytest.skip("each instance has records of its own")
    name, configuration = recipe
    with Adapter(getattr(flowstore.storages, name), configuration).opened() as other:
        other.store("f", "t", "1", "x")
        assert storage.purge() == 1
        assert other.count(Query()) == 0
