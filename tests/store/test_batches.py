"""Many results at once, claims, and places that several want to fill, as applications call them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flowstore import (
    ConflictError,
    ExpiredError,
    FlowStore,
    Key,
    NotFoundError,
    Query,
    ReadonlyError,
    RecordStorage,
    ResultSchemaError,
    ResultTooLargeError,
    SerializationError,
    UnknownStorageError,
    UnsupportedError,
)
from flowstore.record import RESULT, Ref
from flowstore.storages import MemoryStorage

HERE = "tests.store.own_adapters"


class Counting(MemoryStorage):
    """Notes down the calls that a database would answer in a round trip each."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def _get_many(self, *arguments: Any) -> Any:
        self.calls.append("get_many")
        return [MemoryStorage._get(self, ref, True) for ref in arguments[0]]

    def _put_many(self, records: Any, now: float) -> Any:
        self.calls.append("put_many")
        return [MemoryStorage._put(self, record, None, now) for record in records]

    def _add_many(self, records: Any, now: float) -> Any:
        self.calls.append("add_many")
        return super()._add_many(records, now)

    def _delete_seen(self, records: Any) -> Any:
        self.calls.append("delete_seen")
        return super()._delete_seen(records)

    def _scan(self, *arguments: Any) -> Any:
        self.calls.append("scan")
        return super()._scan(*arguments)

    def _get(self, *arguments: Any) -> Any:
        self.calls.append("get")
        return super()._get(*arguments)


ONE = {"name": "One", "classname": "Counting", "import": __name__}
TWO = {"name": "Two", "classname": "Counting", "import": __name__}
PLAIN = {"name": "Plain", "classname": "ErrorStorage", "import": HERE}


@contextmanager
def opened(*storages: dict[str, Any], tasks: Any = (), **more: Any) -> Iterator[FlowStore]:
    store = FlowStore(
        {"storages": list(storages), "tasks": list(tasks), "global": {"default_storage": storages[0]["name"]}, **more}
    )
    yield store
    store.close()


def records(store: FlowStore, name: str) -> RecordStorage:
    storage = store.storage(name)
    assert isinstance(storage, RecordStorage)
    return storage


def calls(store: FlowStore, name: str) -> list[str]:
    storage = store.storage(name)
    assert isinstance(storage, Counting)
    made, storage.calls = storage.calls, []
    return made


TASKS = [
    {"name": "b", "storage": "Two"},
    {"name": "p", "storage": "Plain"},
    {"name": "named", "storage_task_name": "x"},
]


def test_results_go_to_their_storages_and_come_back_in_order() -> None:
    with opened(ONE, TWO, PLAIN, tasks=TASKS) as store:
        given: list[tuple[Any, object]] = [
            (("f", "a", "1"), 1),
            (Key("f", "b", "1"), {"two": None}),
            (("f", "p", "1"), "plain"),
            (("f", "named", "1"), [3]),
            (("f", "a", "2"), None),
        ]
        ids = store.store_many(given)
        address = Ref(RESULT, Key("f", "a", "1")).address.hex()
        assert ids[0] == address
        assert ids[2] is None
        keys = [key for key, _ in given]
        assert store.retrieve_many(keys) == [value for _, value in given]
        assert store.retrieve_many(keys[::-1]) == [value for _, value in given[::-1]]
        assert store.retrieve("f", "x", "1") == [3]
        assert [ref.key.task_name for ref in records(store, "Two").ids(Query())] == ["b"]
        assert store.store_many(dict.fromkeys(keys, "again"))[0] == address
        assert store.retrieve_many([("f", "x", "1"), ("f", "x", "1")]) == ["again", "again"]
        assert store.store_many([]) == store.retrieve_many([]) == []


def test_a_batch_takes_a_few_round_trips_for_each_storage() -> None:
    keys = [("f", "ab"[number % 2], str(number)) for number in range(200)]
    with opened(ONE, TWO, tasks=TASKS[:1]) as store:
        store.store_many([(key, 1) for key in keys])
        assert calls(store, "One") == calls(store, "Two") == ["put_many"]
        assert store.retrieve_many(keys) == [1] * 200
        assert calls(store, "One") == calls(store, "Two") == ["get_many"]
        assert store.delete_many(keys) == 200
        made = calls(store, "One")
        assert made.count("scan") <= 2
        assert made.count("delete_seen") == 1
        assert "get" not in made


def test_what_is_missing_is_the_default_or_an_error() -> None:
    with opened(ONE, PLAIN, tasks=TASKS[1:2]) as store:
        store.store("f", "a", "1", 1)
        store.store("f", "a", "gone", 1, expires_in=0)
        keys = [("f", "a", "1"), ("f", "a", "gone"), ("f", "p", "1"), ("f", "a", "never")]
        assert store.retrieve_many(keys, default=None) == [1, None, None, None]
        with pytest.raises(NotFoundError, match=r"'gone'.*2 of the other keys"):
            store.retrieve_many(keys)
        with pytest.raises(NotFoundError, match="'never'"):
            store.retrieve_many([("f", "a", "never")])
        assert store.retrieve_many(iter(keys[:1])) == [1]


def test_a_batch_goes_by_each_ones_policies(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "integer"}')
    tasks = [
        {"name": "b", "storage": "Two"},
        {"name": "read", "storage_readonly": True},
        {"name": "number", "output_schema": str(tmp_path / "s.json")},
        {"name": "short", "expires": "30m"},
    ]
    with opened(ONE, {**TWO, "max_result_size": 5}, tasks=tasks) as store:
        fine: tuple[Any, object] = (("f", "a", "1"), 1)
        for key, value, error in (
            (("f", "read", "1"), 1, ReadonlyError),
            (("f", "number", "1"), "x", ResultSchemaError),
            (("f", "b", "1"), "too large", ResultTooLargeError),
            (("f", "b", "1"), object(), SerializationError),
        ):
            with pytest.raises(error):
                store.store_many([fine, (key, value)])
            with pytest.raises(NotFoundError):
                store.retrieve("f", "a", "1")
        with pytest.raises(ValueError, match="same key"):
            store.store_many([fine, (Key("f", "a", "1"), 2)])
        store.store_many([fine, (("f", "short", "1"), 2)])
        storage = records(store, "One")
        [record] = storage.records(Query(task_name="short"))
        assert record.expires_at == record.stored_at + 1800
        assert abs(record.stored_at - storage.now()) < 60
        assert record.state == "SUCCESS"
        with pytest.raises(ReadonlyError):
            store.delete_many([("f", "a", "1"), ("f", "read", "1")])
        assert store.retrieve("f", "a", "1") == 1
    with pytest.raises(UnknownStorageError):
        FlowStore({"storages": [ONE]}).store_many([fine])


@pytest.mark.parametrize("policy", ["keep", "error"])
def test_a_batch_keeps_to_on_conflict(policy: str) -> None:
    with opened({**ONE, "on_conflict": policy}) as store:
        store.store_many([(("f", "a", str(number)), number) for number in range(3)])
        assert calls(store, "One") == ["add_many"]
        again: list[tuple[Any, object]] = [(("f", "a", str(number)), number) for number in range(5)]
        store.store_many(again)  # a task that was redelivered
        changed: list[tuple[Any, object]] = [(("f", "a", str(number)), "new") for number in range(4, 7)]
        if policy == "error":
            with pytest.raises(ConflictError, match="'4'") as caught:
                store.store_many(changed)
            assert caught.value.storage == "One"
        else:
            store.store_many(changed)
        keys = [("f", "a", str(number)) for number in range(7)]
        assert store.retrieve_many(keys) == [0, 1, 2, 3, 4, "new", "new"]


def test_the_cache_is_asked_filled_and_never_stale() -> None:
    with opened({**ONE, "cache": {"classname": "LRU", "size": 10}}) as store:
        keys = [("f", "a", str(number)) for number in range(4)]
        store.store_many([(key, {"old": 1}) for key in keys])
        store.retrieve(*keys[0])
        calls(store, "One")
        store.retrieve_many(keys)[0]["changed"] = True
        assert calls(store, "One") == ["get_many"]
        assert store.retrieve_many(keys) == [{"old": 1}] * 4
        assert calls(store, "One") == []
        store.store_many([(key, "new") for key in keys[:2]])
        assert store.retrieve_many(keys) == ["new", "new", {"old": 1}, {"old": 1}]
        assert store.delete_many(keys[1:3]) == 2
        assert store.retrieve_many(keys, default=None) == ["new", None, None, {"old": 1}]


def test_what_expires_while_it_is_cached_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened({**ONE, "cache": {"classname": "LRU", "size": 10}, "expires": 100}) as store:
        store.store("f", "a", "1", 1)
        assert store.retrieve("f", "a", "1") == 1
        now = records(store, "One").now()
        monkeypatch.setattr(Counting, "now", lambda _: now + 100)
        with pytest.raises(ExpiredError):
            store.retrieve("f", "a", "1")
        assert store.retrieve_many([("f", "a", "1")], default="gone") == ["gone"]


def test_a_calls_own_expiry_comes_first() -> None:
    with opened({**ONE, "expires": 100}, PLAIN, tasks=TASKS[1:2]) as store:
        given = {"storage's": None, "seconds": 5, "text": "2h", "span": timedelta(minutes=1), "ever": None}
        store.store("f", "a", "storage's", 1)
        for name, expires_in in list(given.items())[1:]:
            store.store("f", "a", name, 1, expires_in=expires_in)
        found = {
            one.key.task_id: one.expires_at and one.expires_at - one.stored_at
            for one in records(store, "One").records(Query())
        }
        assert found == {"storage's": 100, "seconds": 5, "text": 7200, "span": 60, "ever": None}
        for wrong in (-1, "soon", float("nan")):
            with pytest.raises(ValueError, match="duration"):
                store.store("f", "a", "x", 1, expires_in=wrong)
        with pytest.raises(UnsupportedError, match="for ever"):
            store.store("f", "p", "1", 1, expires_in=5)
        store.store("f", "p", "1", 1, expires_in=None)


def test_an_error_expires_as_a_result_does() -> None:
    with opened({**ONE, "expires": 100}) as store:
        store.store_error((), "f", "a", "1", ValueError("x"))
        [record] = records(store, "One").records(Query())
        assert record.expires_at == record.stored_at + 100


def test_a_result_that_is_too_large_is_refused_and_the_older_one_stays() -> None:
    with opened({**ONE, "max_result_size": 5}, TWO, tasks=TASKS[:1]) as store:
        store.store("f", "a", "1", 12345)
        with pytest.raises(ResultTooLargeError, match="max_result_size of its storage is 5"):
            store.store("f", "a", "1", 123456)
        assert store.retrieve("f", "a", "1") == 12345
        store.store("f", "b", "1", "x" * 100)


def test_a_place_is_filled_once(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "array"}')
    tasks = [
        {"name": "read", "storage_readonly": True},
        {"name": "list", "output_schema": str(tmp_path / "s.json")},
        {"name": "p", "storage": "Plain"},
    ]
    with opened({**ONE, "expires": 60, "cache": {"classname": "LRU", "size": 10}}, PLAIN, tasks=tasks) as store:
        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(lambda number: store.get_or_store("f", "a", "1", {"n": number}), range(50)))
        assert found == [found[0]] * 50
        found[0]["changed"] = True
        assert store.retrieve("f", "a", "1") == found[1]
        assert store.get_or_store("f", "a", "2", lambda: "made", expires_in=None) == "made"
        assert store.get_or_store("f", "a", "2", pytest.fail) == "made"
        expiries = [one.expires_at is not None for one in records(store, "One").records(Query())]
        assert expiries == [True, False]
        with pytest.raises(ResultSchemaError):
            store.get_or_store("f", "list", "1", "text")
        assert store.get_or_store("f", "list", "1", []) == []
        with pytest.raises(ReadonlyError, match="readonly"):
            store.get_or_store("f", "read", "1", 1)
        with pytest.raises(UnsupportedError, match="RecordStorage"):
            store.get_or_store("f", "p", "1", 1)


def test_one_of_many_claims() -> None:
    with opened(ONE, tasks=[{"name": "named", "storage_task_name": "x"}]) as store:
        with ThreadPoolExecutor(20) as pool:
            won = list(pool.map(lambda _: store.claim("f", "a", "1", "lock"), range(50)))
        assert won.count(True) == 1
        assert store.release("f", "a", "1", "lock")
        assert not store.release("f", "a", "1", "lock")
        assert store.claim("f", "named", "1", owner="me", expires_in="1h")
        assert not store.claim("f", "x", "1")
        assert not store.release("f", "x", "1", owner="you")
        assert store.claim("f", "x", "1", owner="me", expires_in=0)
        assert store.claim("f", "x", "1")
        assert store.delete("f", "named", "1")
        assert store.claim("f", "x", "1")
