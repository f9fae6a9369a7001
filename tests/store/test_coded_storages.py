"""A FlowStore whose storages compress and encrypt: policies, caches, batches and everything else that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowstore import ConflictError, CorruptError, FlowStore, Key, Query
from flowstore.encoding.pipeline import Pipeline
from flowstore.storages import MemoryStorage

OLD = "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZCE="
NEW = "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE="
CANARY = "hunter2"


class Packed(MemoryStorage):
    """Chooses how its values are written by itself."""

    pipeline = Pipeline("msgpack")


def opened(path: Path, keys: dict[str, str], active: str, **more: Any) -> FlowStore:
    entry = {
        "name": "Files",
        "classname": "FileStorage",
        "configuration": {"path": str(path), "durable": False},
        "encryption": {"keys": keys, "active": active, "required": more.pop("required", False)},
        **more,
    }
    return FlowStore({"storages": [entry], "global": {"default_storage": "Files"}})


def contents(path: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def test_nothing_that_is_stored_shows_a_value(tmp_path: Path) -> None:
    store = opened(tmp_path, {"k": NEW}, "k")
    store.store("flow", "task", "1", {"password": CANARY})
    store.store_error({"args": [CANARY]}, "flow", "task", "2", ValueError(CANARY))
    store.store_many([(("flow", "task", "3"), CANARY), (("flow", "task", "4"), CANARY)])
    store.get_or_store("flow", "task", "5", CANARY)
    store.checkpoints("flow", "task", "6")["page"] = CANARY
    store.variables("flow")["cursor"] = CANARY
    store.record_history("done", "flow", data=CANARY)
    kinds = {record.kind for record in store.storage("Files").records(Query())}  # type: ignore[attr-defined]
    assert kinds >= {"result", "error", "checkpoint", "variable", "history"}
    assert CANARY.encode() not in contents(tmp_path)
    store.close()

    again = opened(tmp_path, {"k": NEW}, "k", required=True)
    assert again.retrieve("flow", "task", "1") == {"password": CANARY}
    assert again.retrieve_error("flow", "task", "2").failure.message == CANARY
    assert again.retrieve_many([("flow", "task", "3"), ("flow", "task", "4")]) == [CANARY, CANARY]
    assert again.retrieve("flow", "task", "5") == CANARY
    assert again.checkpoints("flow", "task", "6")["page"] == CANARY
    assert again.variables("flow")["cursor"] == CANARY
    assert [entry.data for entry in again.history("flow")] == [CANARY]
    again.close()


def test_a_value_in_plain_text_would_be_noticed(tmp_path: Path) -> None:
    configuration = {"path": str(tmp_path), "durable": False}
    entry = {"name": "Files", "classname": "FileStorage", "configuration": configuration}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "Files"}})
    store.store("flow", "task", "1", {"password": CANARY})
    store.close()
    assert CANARY.encode() in contents(tmp_path)


def test_keys_are_rotated_by_configuration(tmp_path: Path) -> None:
    before = opened(tmp_path, {"2025": OLD}, "2025")
    before.store("flow", "task", "1", "before")
    before.close()
    both = opened(tmp_path, {"2025": OLD, "2026": NEW}, "2026")
    both.store("flow", "task", "2", "after")
    assert both.retrieve("flow", "task", "1") == "before"
    both.close()
    after = opened(tmp_path, {"2026": NEW}, "2026")
    assert after.retrieve("flow", "task", "2") == "after"
    with pytest.raises(CorruptError, match="with the key '2025', which its storage does not have") as caught:
        after.retrieve("flow", "task", "1")
    assert caught.value.storage == "Files"
    after.close()


def test_a_result_cannot_be_passed_off_as_another_ones(tmp_path: Path) -> None:
    store = opened(tmp_path, {"k": NEW}, "k", cache=None)
    store.store("flow", "task", "mine", "mine")
    store.store("flow", "task", "yours", "yours")
    storage: Any = store.storage("Files")
    mine, yours = (storage.get(Key("flow", "task", name)) for name in ("mine", "yours"))
    storage.put(type(mine)(yours.ref, mine.payload, mine.headers))
    with pytest.raises(CorruptError, match="can't be decrypted"):
        store.retrieve("flow", "task", "yours")
    store.close()


@pytest.mark.parametrize("policy", ["error", "keep"])
def test_a_redelivered_task_is_no_conflict_though_its_ciphertext_differs(policy: str, tmp_path: Path) -> None:
    store = opened(tmp_path, {"k": NEW}, "k", on_conflict=policy)
    store.store("flow", "task", "1", {"price": 3})
    store.store("flow", "task", "1", {"price": 3})
    if policy == "error":
        with pytest.raises(ConflictError):
            store.store("flow", "task", "1", {"price": 4})
    else:
        store.store("flow", "task", "1", {"price": 4})
    assert store.retrieve("flow", "task", "1") == {"price": 3}
    store.close()
    other = opened(tmp_path, {"k": OLD}, "k", on_conflict="error")
    with pytest.raises(ConflictError):
        other.store("flow", "task", "1", {"price": 3})
    other.close()


def test_a_cache_holds_what_is_stored_and_gives_out_values(tmp_path: Path) -> None:
    store = opened(tmp_path, {"k": NEW}, "k", cache={"classname": "LRU", "size": 10})
    store.store("flow", "task", "1", [1])
    store.retrieve("flow", "task", "1").append(2)
    store.storage("Files").disconnect()
    assert store.retrieve("flow", "task", "1") == [1]
    store.close()


def test_an_adapter_may_choose_how_its_values_are_written() -> None:
    own = {"name": "Own", "classname": "Packed", "import": __name__}
    named = {**own, "name": "Named", "serializer": "pickle"}
    store = FlowStore({"storages": [own, named], "global": {"default_storage": "Own"}})
    store.store("flow", "task", "1", {"a": b"x"})
    record = store.storage("Own").get(Key("flow", "task", "1"))  # type: ignore[attr-defined]
    assert record.headers["serializer"] == "msgpack"
    assert store.retrieve("flow", "task", "1") == {"a": b"x"}
    named_storage: Any = store.storage("Named")
    named_storage.store("flow", "task", "1", {"a": b"x"})
    assert named_storage.get(Key("flow", "task", "1")).headers["serializer"] == "pickle"
    store.close()
