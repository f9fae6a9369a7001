"""What ``FlowStore`` shows of itself, and how it ends as a context manager."""

from __future__ import annotations

import inspect

import pytest

from flowstore import FlowStore
from flowstore.store.base import StoreBase

PUBLIC = {
    "attach", "attached_to", "detach", "start", "storage", "task_storage", "close",
    "store", "retrieve", "store_error", "retrieve_error", "errors", "delete", "reference", "load",
    "store_many", "retrieve_many", "delete_many",
    "get_or_store", "claim", "release", "claimed",
    "store_blob", "retrieve_blob", "delete_blob", "blobs",
    "checkpoints", "variables", "documents",
    "record_history", "history",
    "runs", "run",
    "cleanup", "delete_run", "clear", "purge",
}  # fmt: skip


@pytest.fixture
def store() -> FlowStore:
    return FlowStore({"storages": [{"name": "MemoryStorage"}], "global": {"default_storage": "MemoryStorage"}})


def test_what_is_internal_is_underscored(store: FlowStore) -> None:
    assert {name for name in dir(store) if not name.startswith("_")} == PUBLIC


def test_each_name_is_defined_in_one_chapter() -> None:
    chapters = [chapter for chapter in FlowStore.__mro__ if issubclass(chapter, StoreBase)]
    names = [name for chapter in chapters for name in vars(chapter) if not name.startswith("__")]
    assert len(names) == len(set(names))


def test_all_that_is_public_has_a_docstring() -> None:
    assert [name for name in PUBLIC if not inspect.getdoc(getattr(FlowStore, name))] == []


def test_a_block_ends_with_close(store: FlowStore) -> None:
    with store as entered:
        assert entered is store
        storage = store.storage("MemoryStorage")
        assert storage.is_connected()
    assert not storage.is_connected()


def test_a_failing_block_ends_with_close(store: FlowStore) -> None:
    storage = store.storage("MemoryStorage")
    with pytest.raises(ValueError, match="of the block"), store:
        raise ValueError("of the block")
    assert not storage.is_connected()


def test_a_claim_lasts_as_long_as_its_block(store: FlowStore) -> None:
    with store.claimed("f", "t", "1", "report") as is_ours:
        assert is_ours
        assert not store.claim("f", "t", "1", "report")
        with store.claimed("f", "t", "1", "report") as is_ours_too:
            assert not is_ours_too
        assert not store.claim("f", "t", "1", "report")
    assert store.claim("f", "t", "1", "report")


def test_a_failing_block_releases_its_claim(store: FlowStore) -> None:
    with pytest.raises(ValueError, match="of the block"), store.claimed("f", "t", "1"):
        raise ValueError("of the block")
    assert store.claim("f", "t", "1")


def test_a_block_leaves_the_claim_of_a_later_owner_alone(store: FlowStore) -> None:
    with store.claimed("f", "t", "1"):
        store.delete("f", "t", "1")  # as expiry would
        assert store.claim("f", "t", "1", owner="another")
    assert not store.claim("f", "t", "1")
