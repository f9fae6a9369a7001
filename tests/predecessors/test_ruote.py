"""ruote's storages: their contract cases and rows, in every storage.

A document of ruote's is a record here, its type the kind, its id the task's id, a process a flow run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flowstore import FlowStore
from flowstore.copying import copy, verify
from flowstore.errors import ConflictError, NotFoundError, UnreachableError, UnsupportedError
from flowstore.record import (
    CHECKPOINT,
    CLAIM,
    CONFIGURATION,
    ERROR,
    HISTORY,
    RESULT,
    VARIABLE,
    Key,
    Query,
    Record,
    Ref,
    register_kind,
)
from flowstore.storage import QueriesFields, RecordStorage
from flowstore.storages import MemoryStorage
from flowstore.testing import Adapter, record
from flowstore.testing.concurrency import in_processes
from tests.storages.places import SHARED, adapter, configuration, entry, unreachable
from tests.storages.storage_kit import Recipe, opened

pytest_plugins = ("tests.storages.every_storage",)
pytestmark = pytest.mark.each_time("sqlite", "redis")

KEY = Key("flow", "task", "toto")
shared = pytest.mark.parametrize("kind", SHARED)


def key(task_id: str, flow_name: str = "flow") -> Key:
    return Key(flow_name, "task", task_id)


def task_ids(storage: RecordStorage, query: Query) -> list[str]:
    return [one.key.task_id for one in storage.records(query)]


def decoded(storage: RecordStorage, found: Record) -> Any:
    return storage.pipeline.decode(found)


@pytest.fixture
def thirty(storage: RecordStorage) -> RecordStorage:
    """A storage with thirty documents of one type and one of another, stored in no order of their ids."""
    numbers = [*range(0, 30, 2), *range(29, 0, -2)]
    storage.put_many([record(key(f"a-{number:02}"), number) for number in numbers])
    storage.put(record(key("a-03"), "another type", ERROR))
    return storage


# The contract cases, by their names


def test_starts_empty(storage: RecordStorage) -> None:
    assert storage.count(Query()) == 0
    assert list(storage.ids(Query())) == []
    assert storage.scan(Query()).records == []


def test_put(storage: RecordStorage) -> None:
    given = record(KEY, {"color": "blue"})
    stored = storage.put(given, if_revision=0)
    assert stored.revision > 0
    assert given.revision == 0, "the caller's own was changed"
    assert decoded(storage, storage.get(KEY)) == {"color": "blue"}


def test_put_when_it_exists(storage: RecordStorage) -> None:
    first = storage.put(record(KEY, "first"), if_revision=0)
    with pytest.raises(ConflictError) as caught:
        storage.put(record(KEY, "second"), if_revision=0)
    assert caught.value.current is not None
    assert (caught.value.current.revision, decoded(storage, caught.value.current)) == (first.revision, "first")
    assert decoded(storage, storage.get(KEY)) == "first"


def test_reput_gets_a_new_revision(storage: RecordStorage) -> None:
    first = storage.put(record(KEY, "first"))
    second = storage.put(record(KEY, "second"), if_revision=first.revision)
    assert second.revision > first.revision
    assert storage.get(KEY).revision == second.revision


def test_reput_with_a_wrong_revision(storage: RecordStorage) -> None:
    first = storage.put(record(KEY, "first"))
    second = storage.put(record(KEY, "second"))
    for wrong in (1, first.revision, second.revision + 1):
        with pytest.raises(ConflictError) as caught:
            storage.put(record(KEY, "third"), if_revision=wrong)
        assert caught.value.current is not None
        assert decoded(storage, caught.value.current) == "second"
    assert decoded(storage, storage.get(KEY)) == "second"


def test_reput_when_gone(storage: RecordStorage) -> None:
    first = storage.put(record(KEY, "first"))
    storage.delete(KEY)
    with pytest.raises(ConflictError) as caught:
        storage.put(record(KEY, "second"), if_revision=first.revision)
    assert caught.value.current is None, "gone is told apart from changed"
    with pytest.raises(NotFoundError):
        storage.get(KEY)


def test_put_with_a_revision_where_there_is_none(storage: RecordStorage) -> None:
    with pytest.raises(ConflictError) as caught:
        storage.put(record(KEY, "first"), if_revision=1)
    assert caught.value.current is None
    assert storage.count(Query()) == 0


def test_77_puts_have_unique_revisions(storage: RecordStorage) -> None:
    revisions = [storage.put(record(KEY, number)).revision for number in range(77)]
    assert len(set(revisions)) == 77
    assert all(earlier < later for earlier, later in pairwise(revisions))


def test_get_missing(storage: RecordStorage) -> None:
    with pytest.raises(NotFoundError):
        storage.get(KEY)
    storage.put(record(KEY, "error", ERROR))
    with pytest.raises(NotFoundError):
        storage.get(KEY)
    assert storage.get_many([Ref(RESULT, KEY)]) == [None]


def test_get_is_a_fresh_copy(storage: RecordStorage) -> None:
    storage.put(record(KEY, {"list": [1]}))
    decoded(storage, storage.get(KEY))["list"].append(2)
    found = storage.get(KEY)
    if isinstance(found.headers, dict):
        found.headers["state"] = "changed"
    assert decoded(storage, storage.get(KEY)) == {"list": [1]}
    assert "state" not in storage.get(KEY).headers


def test_delete(storage: RecordStorage) -> None:
    stored = storage.put(record(KEY, "x"))
    assert storage.delete(KEY, if_revision=stored.revision) is True
    with pytest.raises(NotFoundError):
        storage.get(KEY)


def test_delete_with_a_stale_revision(storage: RecordStorage) -> None:
    stored = storage.put(record(KEY, "first"))
    storage.put(record(KEY, "second"))
    with pytest.raises(ConflictError) as caught:
        storage.delete(KEY, if_revision=stored.revision)
    assert caught.value.current is not None
    assert decoded(storage, caught.value.current) == "second"
    assert decoded(storage, storage.get(KEY)) == "second"


def test_delete_without_a_revision(storage: RecordStorage) -> None:
    storage.put(record(KEY, "first"))
    storage.put(record(KEY, "second"))
    assert storage.delete(KEY) is True
    assert storage.count(Query()) == 0


def test_delete_when_gone(storage: RecordStorage) -> None:
    stored = storage.put(record(KEY, "x"))
    assert storage.delete(KEY)
    assert storage.delete(KEY) is False
    assert storage.delete(KEY, if_revision=stored.revision) is False


def test_get_many_by_string(thirty: RecordStorage) -> None:
    assert task_ids(thirty, Query((RESULT,), task_id="a-03")) == ["a-03"]
    assert task_ids(thirty, Query((RESULT,), task_id="a-3")) == []


def test_get_many_by_pattern(thirty: RecordStorage) -> None:
    assert task_ids(thirty, Query((RESULT,), pattern="a-1?", order="task_id")) == [f"a-{n}" for n in range(10, 20)]
    assert task_ids(thirty, Query((RESULT,), pattern="*7", order="task_id")) == ["a-07", "a-17", "a-27"]
    assert task_ids(thirty, Query((RESULT,), pattern="A-*")) == [], "case counts"
    assert thirty.count(Query((RESULT,), pattern="a-*")) == 30


def test_get_many_by_a_list_of_keys(thirty: RecordStorage) -> None:
    wanted = ("a-17", "a-03", "no such one")
    assert task_ids(thirty, Query((RESULT,), task_ids=wanted, order="task_id")) == ["a-03", "a-17"]
    assert task_ids(thirty, Query((RESULT,), task_ids=())) == []


def test_get_many_limit(thirty: RecordStorage) -> None:
    page = thirty.scan(Query((RESULT,), order="task_id"), limit=3)
    assert [one.key.task_id for one in page.records] == ["a-00", "a-01", "a-02"]
    page = thirty.scan(Query((RESULT,), order="task_id"), limit=3, cursor=page.cursor)
    assert [one.key.task_id for one in page.records] == ["a-03", "a-04", "a-05"]
    assert len(thirty.scan(Query((RESULT,)), limit=1000).records) == 30


def test_get_many_count(thirty: RecordStorage) -> None:
    assert thirty.count(Query((RESULT,))) == 30
    assert thirty.count(Query()) == 31
    assert thirty.count(Query((ERROR,), task_id="a-03")) == 1
    assert thirty.count(Query(("no such kind",))) == 0


def test_get_many_skip_and_limit(thirty: RecordStorage) -> None:
    page = thirty.scan(Query((RESULT,), order="task_id", skip=4), limit=3)
    assert [one.key.task_id for one in page.records] == ["a-04", "a-05", "a-06"]
    assert thirty.scan(Query((RESULT,), order="task_id", skip=29), limit=3).records[0].key.task_id == "a-29"
    assert thirty.scan(Query((RESULT,), order="task_id", skip=30), limit=3).records == []
    assert thirty.scan(Query((RESULT,), order="task_id", skip=300), limit=3).records == []


def test_get_many_reversed(thirty: RecordStorage) -> None:
    query = Query((RESULT,), order="task_id", descending=True)
    assert task_ids(thirty, query) == [f"a-{number:02}" for number in reversed(range(30))]
    page = thirty.scan(Query((RESULT,), order="task_id", descending=True, skip=2), limit=2)
    assert [one.key.task_id for one in page.records] == ["a-27", "a-26"]


def test_ids_sorted(thirty: RecordStorage) -> None:
    found = [ref.key.task_id for ref in thirty.ids(Query((RESULT,), order="task_id"))]
    assert found == [f"a-{number:02}" for number in range(30)]


def test_purge(thirty: RecordStorage) -> None:
    thirty.put(record(KEY, 1, VARIABLE, "v"))
    assert thirty.purge() == 32
    assert thirty.count(Query()) == 0
    assert thirty.purge() == 0
    assert thirty.put(record(KEY, "again"), if_revision=0).revision > 0


def test_no_revision_comes_again_after_a_delete(storage: RecordStorage) -> None:
    first = storage.put(record(KEY, "first"))
    assert storage.delete(KEY)
    second = storage.put(record(KEY, "second"))
    assert second.revision > first.revision
    for act in (
        lambda: storage.put(record(KEY, "stale"), if_revision=first.revision),
        lambda: storage.delete(KEY, if_revision=first.revision),
    ):
        with pytest.raises(ConflictError):
            act()
    assert decoded(storage, storage.get(KEY)) == "second"


def test_purge_of_one_type(thirty: RecordStorage) -> None:
    assert thirty.purge(RESULT) == 30
    assert thirty.count(Query((RESULT,))) == 0
    assert task_ids(thirty, Query((ERROR,))) == ["a-03"]


def test_clear(storage: RecordStorage) -> None:
    kept = [VARIABLE, CONFIGURATION, HISTORY]
    for kind in (RESULT, ERROR, CHECKPOINT, *kept):
        storage.put(record(KEY, kind, kind, "n"))
    assert storage.clear() == 3
    assert sorted(ref.kind for ref in storage.ids(Query())) == sorted(kept)


def test_remove_a_process(storage: RecordStorage) -> None:
    for run_id in ("one", "other"):
        for number in range(7):
            storage.put(record(key(f"{run_id}-{number}"), number, run_id=run_id))
            storage.put(record(key(f"{run_id}-{number}"), number, CHECKPOINT, "c"))
        storage.put(record(key(f"{run_id}-7"), "error", ERROR, run_id=run_id))
        storage.put(record(key(f"{run_id}-1"), "was here", HISTORY, "h", run_id=run_id))
    assert storage.delete_run("one") == 15
    left = list(storage.ids(Query()))
    assert [ref.kind for ref in left if ref.key.task_id.startswith("one")] == [HISTORY]
    assert len([ref for ref in left if ref.key.task_id.startswith("other")]) == 16
    assert storage.delete_run("one") == 0


JOBS = 40


def _reserve(place: Adapter, barrier: Any, worker: int) -> list[str]:
    """Produce jobs (the first worker), or reserve them one by one; return the ids of those that were this worker's."""
    mine: list[str] = []
    with place.opened() as storage:
        barrier.wait()
        if worker == 0:
            for number in range(JOBS):
                storage.put(record(key(f"job-{number}"), number, "job"))
            storage.put(record(key("all"), JOBS, "produced"))
            return mine
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            is_complete = storage.count(Query(("produced",))) == 1
            jobs = list(storage.ids(Query(("job",))))
            for ref in jobs:
                if storage.claim(ref.key, "reserved", owner=f"worker {worker}"):
                    mine.append(ref.key.task_id)
                    storage.delete(ref.key, "job")
            if is_complete and not jobs:
                break
    return mine


@shared
def test_reserve_under_load(recipe: Recipe) -> None:
    """One process produces, two consume: each job is reserved by exactly one of them."""
    produced, *reserved = in_processes(adapter(recipe), _reserve, 180, 3)
    assert produced == []
    assert sorted(job for mine in reserved for job in mine) == sorted(f"job-{number}" for number in range(JOBS))


# Bugs that ruote's storages had


def test_a_lock_does_not_expire_by_itself(storage: RecordStorage) -> None:
    assert storage.claim(KEY, "lock", owner="a")
    assert storage.get(KEY, CLAIM, "lock").expires_at is None
    assert not storage.claim(KEY, "lock", owner="b")
    assert not storage.release(KEY, "lock", owner="b")
    assert storage.release(KEY, "lock", owner="a")
    assert storage.claim(KEY, "lock", owner="b")


def test_a_lock_that_expired_is_not_released_by_its_former_owner(storage: RecordStorage) -> None:
    assert storage.claim(KEY, "lock", owner="a", expires_in=0.05)
    deadline = time.monotonic() + 30
    while not storage.claim(KEY, "lock", owner="b"):
        assert time.monotonic() < deadline
    assert not storage.release(KEY, "lock", owner="a")
    assert not storage.claim(KEY, "lock", owner="c")


@pytest.mark.parametrize("task_id", ["toto-lock", "-lock", "a/b/c", "/", "a/", "../a", "a_lock.rb", "0_0!f4"])
def test_ids_are_kept_as_they_are(storage: RecordStorage, task_id: str) -> None:
    storage.put(record(key(task_id), "x"))
    storage.put(record(key("toto"), "y"))
    assert decoded(storage, storage.get(key(task_id))) == "x"
    assert sorted(ref.key.task_id for ref in storage.ids(Query())) == sorted([task_id, "toto"])
    assert storage.delete(key(task_id))
    assert task_ids(storage, Query()) == ["toto"]


@shared
def test_not_every_error_is_a_conflict(kind: str, tmp_path: Path) -> None:
    store = FlowStore(configuration(unreachable(kind, tmp_path), on_conflict="error", on_store_error="fail"))
    with pytest.raises(UnreachableError):
        store.store("flow", "task", "1", "x")
    store.close()


def test_the_limit_is_applied_after_the_filter(storage: RecordStorage) -> None:
    storage.put_many([record(key(f"{number:02}"), number, state="PENDING") for number in range(20)])
    for number in range(20, 25):
        storage.put(record(key(f"{number:02}"), number, state="FAILURE"))
    query = Query(states=("FAILURE",))
    page = storage.scan(query, limit=2)
    assert [one.key.task_id for one in page.records] == ["20", "21"]
    page = storage.scan(query, limit=20, cursor=page.cursor)
    assert [one.key.task_id for one in page.records] == ["22", "23", "24"]
    by_pattern = storage.scan(Query(pattern="2?", skip=1), limit=2)
    assert [one.key.task_id for one in by_pattern.records] == ["21", "22"]


# The rows that no contract case covers


def test_r08_types_can_be_added(storage: RecordStorage) -> None:
    assert register_kind("invoice of the rows") == "invoice of the rows"
    register_kind("ledger of the rows", survives_clear=True)
    for one in ("invoice of the rows", "ledger of the rows"):
        storage.put(record(KEY, one, one))
        assert decoded(storage, storage.get(KEY, one)) == one
    storage.clear()
    assert [ref.kind for ref in storage.ids(Query())] == ["ledger of the rows"]


def test_r09_each_type_is_a_kind_of_its_own(storage: RecordStorage) -> None:
    kinds = (RESULT, ERROR, VARIABLE, CONFIGURATION, HISTORY, CHECKPOINT, "mine")
    for one in kinds:
        storage.put(record(KEY, one, one))
    assert [decoded(storage, storage.get(KEY, one)) for one in kinds] == list(kinds)
    assert [storage.count(Query((one,))) for one in kinds] == [1] * len(kinds)


@pytest.fixture
def composite(recipe: Recipe) -> Iterator[FlowStore]:
    """Errors in memory, everything else in the storage."""
    parts = [{"name": "Errors", "classname": "MemoryStorage"}, entry(recipe, "Main")]
    routing = {
        "storages": {"errors": "Errors", "main": "Main"},
        "routes": [{"storage": "errors", "kinds": ["error"]}],
        "default": "main",
    }
    both = {"name": "Both", "classname": "RoutingStorage", "configuration": routing}
    store = FlowStore({"storages": [*parts, both], "global": {"default_storage": "Both"}})
    yield store
    store.close()


def test_r12_another_storage_by_type(composite: FlowStore) -> None:
    composite.store("flow", "task", "1", "result")
    composite.store_error(None, "flow", "task", "1", ValueError("bad"))
    kinds = [[ref.kind for ref in _records(composite, name).ids(Query())] for name in ("Errors", "Main", "Both")]
    assert kinds[:2] == [[ERROR], [RESULT]]
    assert sorted(kinds[2]) == [ERROR, RESULT]
    assert composite.retrieve("flow", "task", "1") == "result"
    assert composite.retrieve_error("flow", "task", "1").failure.message == "bad"


def test_r12_a_delete_is_not_misrouted(composite: FlowStore) -> None:
    """One of ruote's deleted in another storage than the one that it had stored in."""
    both, main, errors = (_records(composite, name) for name in ("Both", "Main", "Errors"))
    for storage in (both, main, errors):
        storage.put(record(KEY, "result"))
        storage.put(record(KEY, "error", ERROR))
    assert both.delete(KEY, ERROR)
    assert errors.count(Query((ERROR,))) == 0
    assert main.count(Query((ERROR,))) == 1, "it was never the composite's"
    assert both.delete(KEY)
    assert main.count(Query((RESULT,))) == 0
    assert errors.count(Query((RESULT,))) == 1


def test_r12_purge_and_close_reach_all(composite: FlowStore) -> None:
    composite.store("flow", "task", "1", "result")
    composite.store_error(None, "flow", "task", "1", ValueError("bad"))
    assert composite.purge("Both") >= 2
    assert [_records(composite, name).count(Query()) for name in ("Main", "Errors")] == [0, 0]
    parts = [composite.storage(name) for name in ("Main", "Errors", "Both")]
    composite.close()
    assert [part.is_connected() for part in parts] == [False] * 3


def _records(store: FlowStore, name: str) -> RecordStorage:
    storage = store.storage(name)
    assert isinstance(storage, RecordStorage)
    return storage


def test_r13_history_by_process_and_by_date_survives_clear(recipe: Recipe) -> None:
    store = FlowStore(configuration(recipe))
    for number in range(4):
        store.record_history(f"event {number % 2}", "flow", run_id=f"run {number // 2}", data=number)
    store.store("flow", "task", "1", "x")
    everything = list(store.history("flow"))
    assert [entry.data for entry in everything] == [0, 1, 2, 3]
    assert [entry.data for entry in store.history("flow", run_id="run 1")] == [2, 3]
    later = everything[2].at
    assert [entry.data for entry in store.history("flow", since=later)] == [2, 3]
    assert [entry.data for entry in store.history("flow", until=later)] == [0, 1]
    assert [entry.data for entry in store.history("flow", events=["event 1"])] == [1, 3]
    assert store.clear("Results") == 1
    assert [entry.data for entry in store.history("flow")] == [0, 1, 2, 3]
    store.close()


def test_r14_copy_to_a_target_with_a_count(thirty: RecordStorage) -> None:
    target = MemoryStorage()
    target.connect()
    result = copy(thirty, target)
    assert (result.copied, result.failed) == (31, 0)
    assert task_ids(target, Query((RESULT,), order="task_id")) == [f"a-{number:02}" for number in range(30)]
    assert copy(thirty, target).copied == 0, "what is there already is not copied again"
    target.put(record(key("a-00"), "changed"))
    assert copy(thirty, target).conflicts == 1


def test_r17_queries_by_field(storage: RecordStorage) -> None:
    if not isinstance(storage, QueriesFields):
        with pytest.raises(UnsupportedError, match="QueriesFields"):
            storage.scan(Query(where={"number": 3}))
        return
    for number in range(6):
        storage.put(record(key(str(number)), {"customer": {"name": f"n{number % 2}"}, "number": number}))
    assert task_ids(storage, Query(where={"customer.name": "n1"})) == ["1", "3", "5"]
    assert task_ids(storage, Query(where={"customer.name": "n1", "number": 3})) == ["3"]
    assert task_ids(storage, Query(where={"number": "3"})) == []


def test_r14_copy_between_two_databases_is_verified(thirty: RecordStorage, tmp_path: Path) -> None:
    with opened(("FileStorage", {"path": str(tmp_path / "copy"), "durable": False})) as target:
        assert copy(thirty, target).copied == 31
        checked = verify(thirty, target)
        assert checked.is_same
        target.delete(key("a-07"))
        assert not verify(thirty, target).is_same
