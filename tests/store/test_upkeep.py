"""Deleting what is old, a run, or everything, in all storages, and keeping what runs in progress need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowstore import (
    FlowStore,
    Key,
    NotFoundError,
    Query,
    ReadonlyError,
    RecordStorage,
    Ref,
    UnknownStorageError,
    UnsupportedError,
)
from flowstore.encoding.pipeline import encode
from flowstore.record import CHECKPOINT, ERROR, HISTORY, RESULT, RUN, VARIABLE, register_kind, survives_clear
from flowstore.storages import MemoryStorage
from flowstore.store.plan import Plan

DAY = 86_400.0
MAIN = {"name": "Main", "classname": "MemoryStorage"}
SIDE = {"name": "Side", "classname": "MemoryStorage"}
PLAIN = {"name": "Plain", "classname": "PlainStorage", "import": "tests.store.own_adapters"}
SIDE_TASK = {"name": "side", "storage": "Side"}


@contextmanager
def opened(*storages: dict[str, Any], tasks: Any = (SIDE_TASK,), **more: Any) -> Iterator[FlowStore]:
    declared = storages or (MAIN, SIDE)
    store = FlowStore(
        {"storages": list(declared), "tasks": list(tasks), "global": {"default_storage": declared[0]["name"]}, **more}
    )
    yield store
    store.close()


@pytest.fixture
def store() -> Iterator[FlowStore]:
    with opened() as store:
        yield store


def records(store: FlowStore, name: str = "Main") -> RecordStorage:
    storage = store.storage(name)
    assert isinstance(storage, RecordStorage)
    return storage


def put(
    store: FlowStore,
    task_name: str,
    task_id: str,
    run_id: str | None = None,
    *,
    days: float = 0,
    kind: str = RESULT,
    name: str = "",
    value: object = 1,
    flow_name: str = "f",
    **facts: Any,
) -> Ref:
    """Store a record that is so many days old where the configuration says."""
    storage = records(store, "Side" if task_name == "side" else "Main")
    ref = Ref(kind, Key(flow_name, task_name, task_id), name)
    known = {"run_id": run_id, "stored_at": storage.now() - days * DAY, **facts}
    storage.put(encode(ref, value, {name: value for name, value in known.items() if value is not None}))
    return ref


def start(store: FlowStore, run_id: str, result: Any, *members: str, days: float, flow_name: str = "f") -> Ref:
    """Store what the start of a run stores."""
    plan = Plan(result, members).to_dict()
    return put(store, "", run_id, run_id, days=days, kind=RUN, value=plan, flow_name=flow_name)


def stored(store: FlowStore, name: str = "Main") -> set[Ref]:
    return set(records(store, name).ids(Query(live_at=0.0)))


def test_what_has_expired_goes_in_all_storages_in_use() -> None:
    unused = {"name": "Unused", "classname": "MemoryStorage"}
    with opened(MAIN, SIDE, PLAIN, unused, tasks=[SIDE_TASK, {"name": "p", "storage": "Plain"}]) as store:
        for task in ("a", "side", "p"):
            store.store("f", task, "1", 1)
        put(store, "a", "2", "r", expires_at=1.0)
        put(store, "side", "2", expires_at=1.0)
        assert store.cleanup() == 2
        assert store.cleanup() == 0
        assert [store.retrieve("f", task, "1") for task in ("a", "side", "p")] == [1, 1, 1]
        records(store, "Unused").put(encode(Ref(RESULT, Key("f", "a", "1")), 1, {"expires_at": 1.0}))
        assert store.cleanup() == 0
        assert store.cleanup(storage="Unused") == 1
        with pytest.raises(UnsupportedError):
            store.cleanup(storage="Plain")
        with pytest.raises(UnknownStorageError):
            store.cleanup(storage="Mian")


def test_what_is_old_goes_from_one_storage_or_all(store: FlowStore) -> None:
    for days in (1, 29, 31):
        for task in ("a", "side"):
            put(store, task, str(days), days=days)
    assert store.cleanup("30d", "Side") == 1
    assert store.cleanup("30d") == 1
    assert store.cleanup(older_than=30 * DAY) == 0
    assert {ref.key.task_id for ref in stored(store) | stored(store, "Side")} == {"1", "29"}
    for wrong in (-1, "a week", True):
        with pytest.raises((ValueError, TypeError), match="duration"):
            store.cleanup(wrong)


def test_old_variables_and_history_stay_unless_they_are_named(store: FlowStore) -> None:
    for kind in (VARIABLE, HISTORY, CHECKPOINT):
        put(store, "a", "1", days=400, kind=kind)
    assert store.cleanup("1d") == 1
    assert store.cleanup("1d", kinds=[HISTORY]) == 1
    assert {ref.kind for ref in stored(store)} == {VARIABLE}


def test_records_of_a_run_go_together_counted_from_the_last_one(store: FlowStore) -> None:
    done = [put(store, "a", "1", "done", days=40), put(store, "side", "1", "done", days=31)]
    active = [
        put(store, "a", "2", "active", days=40),
        put(store, "a", "2", "active", days=40, kind=CHECKPOINT),
        put(store, "side", "2", "active", days=1),
    ]
    assert store.cleanup("30d") == 2
    assert stored(store) | stored(store, "Side") == set(active)
    assert store.cleanup("0.5d") == 3
    assert not {*done, *active} & (stored(store) | stored(store, "Side"))


def test_a_run_in_progress_keeps_what_it_needs(store: FlowStore) -> None:
    """Its first tasks ended three days ago, the last one may still run."""
    start(store, "r", ["last", "9"], "1", "2", "9", days=4)
    put(store, "a", "1", "r", days=3)
    put(store, "side", "2", "r", days=3)
    put(store, "a", "2", "r", days=3, kind=ERROR, name="1", state="RETRY")
    assert store.cleanup("1d") == 0
    assert store.cleanup("1d", stalled_after="2d") == 4, "what stored nothing for so long is lost"


@pytest.mark.parametrize("ending", ["result", "replaced", "error", "revoked", "group"])
def test_a_run_that_has_ended_needs_nothing(store: FlowStore, ending: str) -> None:
    group = {"group": [["a", "1"], ["side", "2"]]}
    start(store, "r", group if ending == "group" else ["side", "2"], "1", "2", days=4)
    put(store, "a", "1", "r", days=3)
    if ending in ("result", "group"):
        put(store, "side", "2", "r", days=3)
    elif ending == "replaced":
        put(store, "a", "2", "r", days=3)
    else:
        state = "FAILURE" if ending == "error" else "REVOKED"
        put(store, "side", "2", "r", days=3, kind=ERROR, state=state)
    assert store.cleanup("5d") == 0
    assert store.cleanup("1d") == 3
    assert not stored(store) | stored(store, "Side")


def test_what_has_expired_goes_also_in_a_run_in_progress(store: FlowStore) -> None:
    start(store, "r", ["last", "9"], "9", days=4)
    put(store, "a", "1", "r", days=3, expires_at=1.0)
    assert store.cleanup("1d") == 1
    assert store.cleanup() == 0


def test_the_record_of_a_run_goes_when_all_else_has_expired() -> None:
    flows = [{"name": "ever", "expires": None}, {"name": "short", "expires": "1h"}]
    with opened({**MAIN, "expires": "2d"}, tasks=[], flows=flows) as store:
        start(store, "old", ["a", "1"], "1", days=3)
        put(store, "a", "1", "old", days=2.5, expires_at=1.0)
        active = start(store, "active", ["a", "2"], "2", "3", days=3)
        kept = put(store, "a", "3", "active", days=1)
        young = start(store, "young", ["a", "4"], "4", days=1)
        ever = start(store, "ever", ["a", "5"], "5", days=400, flow_name="ever")
        start(store, "short", ["a", "6"], "6", days=8, flow_name="short")
        running = start(store, "running", ["a", "7"], "7", days=1, flow_name="short")
        assert store.cleanup() == 3
        assert stored(store) == {active, kept, young, ever, running}
        assert store.cleanup(kinds=[RESULT]) == 0


def test_nothing_of_a_task_with_storage_readonly_goes() -> None:
    tasks = [
        {"name": "read", "storage_readonly": True},
        {"name": "reader", "storage_task_name": "shared", "storage_readonly": True},
        {"name": "writer", "storage_task_name": "shared"},
    ]
    with opened(MAIN, tasks=tasks) as store:
        kept = put(store, "read", "1", days=40, expires_at=1.0), put(store, "read", "2", "r", days=40)
        put(store, "shared", "1", days=40)
        put(store, "a", "1", "r", days=40)
        with pytest.raises(ReadonlyError, match=r"'read', which has storage_readonly"):
            store.delete_run("r")
        assert store.cleanup("30d") == 2
        assert stored(store) == set(kept)


def test_a_run_is_deleted_in_all_storages_and_no_other(store: FlowStore) -> None:
    start(store, "r", ["side", "2"], "1", "2", days=0)
    for run_id in ("r", "other"):
        for task in ("a", "side"):
            put(store, task, run_id, run_id)
            put(store, task, run_id, run_id, kind=ERROR, name="1", expires_at=1.0)
            put(store, task, run_id, kind=CHECKPOINT, name="c")
            store.claim("f", task, run_id)
    put(store, "a", "r", "r", kind=HISTORY)
    assert store.delete_run("r") == 9
    assert len(stored(store)) == 5
    assert len(stored(store, "Side")) == 4
    assert {ref.key.task_id for ref in stored(store) if ref.kind != HISTORY} == {"other"}
    with pytest.raises(NotFoundError):
        store._run_reader.plan("f", "r") or store.retrieve("f", "a", "r")
    assert store.delete_run("r") == store.delete_run("never") == 0


def test_no_cached_result_survives() -> None:
    with opened({**MAIN, "cache": {"classname": "LRU", "size": 10}}, tasks=[]) as store:
        empties: tuple[Callable[[], int], ...] = (
            lambda: store.delete_run("r"),
            lambda: store.clear("Main"),
            lambda: store.purge("Main"),
            lambda: store.purge("Main", RESULT),
            lambda: store.cleanup(0, stalled_after=0),
        )
        for empty in empties:
            put(store, "a", "1", "r", days=1)
            assert store.retrieve("f", "a", "1") == 1
            assert empty() == 1
            with pytest.raises(NotFoundError):
                store.retrieve("f", "a", "1")


def test_clear_and_purge(store: FlowStore) -> None:
    for kind in (RESULT, VARIABLE, HISTORY, "configuration", "own kind"):
        put(store, "a", "1", kind=kind)
    put(store, "side", "1")
    assert store.purge("Main", "own kind") == 1
    assert store.clear("Main") == 1
    assert store.purge("Main") == 3
    assert stored(store) == set()
    assert store.retrieve("f", "side", "1") == 1
    with pytest.raises(UnknownStorageError):
        store.purge("Mian")


def test_a_storage_may_forbid_it() -> None:
    with opened({**MAIN, "allow_clear": False}, PLAIN, tasks=[]) as store:
        put(store, "a", "1", days=40)
        empties: tuple[Callable[[], int], ...] = (
            lambda: store.clear("Main"),
            lambda: store.purge("Main"),
            lambda: store.purge("Main", RESULT),
        )
        for empty in empties:
            with pytest.raises(UnsupportedError, match="allow_clear: false") as caught:
                empty()
            assert caught.value.storage == "Main"
        with pytest.raises(UnsupportedError, match="RecordStorage"):
            store.purge("Plain")
        assert len(stored(store)) == 1
        assert store.cleanup("30d") == 1


def test_a_kind_of_ones_own_may_survive(store: FlowStore) -> None:
    assert register_kind("test.kept", survives_clear=True) == "test.kept"
    register_kind("test.kept", survives_clear=True)
    register_kind("test.other")
    assert survives_clear("test.kept")
    assert not survives_clear("test.other")
    assert not survives_clear("never seen")
    with pytest.raises(ValueError, match="keeps it"):
        register_kind("test.kept")
    with pytest.raises(ValueError, match="deletes it"):
        register_kind(RESULT, survives_clear=True)
    with pytest.raises(ValueError, match="name"):
        register_kind("")
    kept = put(store, "a", "1", kind="test.kept", days=400)
    put(store, "a", "1", kind="test.other")
    assert store.clear("Main") == 1
    assert store.cleanup("1d") == 0
    assert stored(store) == {kept}


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
def test_expiry_and_age_go_by_the_storages_clock(monkeypatch: pytest.MonkeyPatch, wrong_by: float) -> None:
    """The clock of a client that is an hour off makes nothing expire or grow old too early or too late."""
    right = time.time()
    monkeypatch.setattr(MemoryStorage, "now", lambda _: right)
    monkeypatch.setattr(time, "time", lambda: right + wrong_by)
    with opened({**MAIN, "expires": 60}, tasks=[]) as store:
        store.store("f", "a", "1", 1)
        store.store_many([(("f", "a", "2"), 1)])
        store.store_error((), "f", "a", "3", ValueError())
        store.get_or_store("f", "a", "4", 1)
        found = list(records(store).records(Query(live_at=0.0)))
        assert [(one.stored_at, one.expires_at) for one in found] == [(right, right + 60)] * 4
        store._begin_run("f", "r")
        assert [one.stored_at for one in records(store).records(Query((RUN,)))] == [right]
        monkeypatch.setattr(MemoryStorage, "now", lambda _: right + 59.5)
        assert store.cleanup() == 0
        assert store.cleanup(59.5) == 0
        monkeypatch.setattr(MemoryStorage, "now", lambda _: right + 60)
        assert store.cleanup() == 4
