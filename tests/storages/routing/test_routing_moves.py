"""Where records are, that they move as a whole, and that copies follow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowstore.errors import ConflictError, NotFoundError, UnreachableError
from flowstore.record import ERROR, RESULT, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.store.registry import Registry
from flowstore.testing import record
from flowstore.testing.concurrency import in_threads
from tests.storages.routing.routing_kit import Interrupted, files, records, routed, sqlite

KEY = Key("flow", "task", "1")
SMALL, LARGE = "s", "l" * 2000


@pytest.fixture
def declared(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {name: sqlite(tmp_path / name) for name in ("Small", "Large", "Errors")}


@pytest.fixture
def registry(declared: dict[str, dict[str, Any]]) -> Iterator[Registry]:
    configuration = {
        "storages": {"small": "Small", "large": "Large", "errors": "Errors"},
        "default": "small",
        "routes": [
            {"storage": "errors", "kinds": ["error"]},
            {"storage": "errors", "flow": "broken *"},
            {"storage": "small", "task": "keep-small"},
            {"storage": "large", "min_size": 1000},
        ],
    }
    with routed(declared, configuration) as registry:
        yield registry


@pytest.fixture
def storage(registry: Registry) -> RecordStorage:
    return records(registry, "Routed")


def payloads(registry: Registry, name: str) -> int:
    """Count the payloads that a storage keeps for records elsewhere."""
    return records(registry, name).count(Query(kinds=("routing.payload",)))


def test_a_route_applies_by_kind_flow_task_and_size(registry: Registry, storage: RecordStorage) -> None:
    storage.put(record(KEY, SMALL))
    storage.put(record(KEY, LARGE, ERROR))
    storage.put(record(Key("broken things", "task", "1"), LARGE))
    storage.put(record(Key("flow", "keep-small", "1"), LARGE))
    storage.put(record(Key("flow", "task", "large"), LARGE))

    def heads(name: str) -> list[str]:
        query = Query(kinds=(RESULT, ERROR))
        return [str(one.ref) for one in records(registry, name).records(query, payload=False)]

    assert heads("Small") == [
        "result 'flow' / 'task' / '1'",
        "result 'flow' / 'keep-small' / '1'",
        "result 'flow' / 'task' / 'large'",
    ]
    assert heads("Errors") == ["error 'flow' / 'task' / '1'", "result 'broken things' / 'task' / '1'"]
    assert heads("Large") == []
    assert [payloads(registry, name) for name in ("Small", "Large", "Errors")] == [0, 1, 0]
    assert storage.count(Query()) == 5
    assert storage.count(Query(kinds=(ERROR,))) == 1


def test_a_record_that_grows_and_shrinks_has_one_payload_and_rising_revisions(
    registry: Registry, storage: RecordStorage
) -> None:
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    ref = Ref(RESULT, KEY)
    revision = 0
    for step in range(60):
        value = choose.choice((SMALL, LARGE)) + str(step)
        how = choose.choice(("put", "revision", "many", "stale"))
        if how == "stale" and revision:
            with pytest.raises(ConflictError) as caught:
                storage.put(record(KEY, value), if_revision=revision + 1)
            assert caught.value.current == storage.get(KEY)
            continue
        if how == "many":
            stored = storage.put_many([record(KEY, value)])[0]
        else:
            stored = storage.put(record(KEY, value), if_revision=revision if how == "revision" else None)
        assert stored.revision == (revision + 1 if revision else stored.revision), f"seed {seed}, step {step}"
        revision = stored.revision
        assert storage.retrieve("flow", "task", "1") == value, f"seed {seed}, step {step}"
        assert storage.get_many([ref])[0] == storage.get(KEY) == next(storage.records(Query()))
        assert payloads(registry, "Large") == value.startswith("l"), f"seed {seed}, step {step}"
    assert storage.delete(KEY)
    assert payloads(registry, "Large") == 0
    for name in ("Small", "Large"):
        assert records(registry, name).count(Query()) == 0


def test_of_a_small_and_a_large_one_at_once_one_wins(registry: Registry, storage: RecordStorage) -> None:
    """They are for different storages: who is first is decided by one of them."""
    for number in range(20):
        key = Key("flow", "task", str(number))
        losers: list[ConflictError] = []

        def claim(barrier: Any, worker: int, key: Key = key, losers: list[ConflictError] = losers) -> bool:
            barrier.wait()
            try:
                storage.put(record(key, (SMALL, LARGE)[worker % 2] + str(worker)), if_revision=0)
            except ConflictError as exc:
                losers.append(exc)
                return False
            return True

        won = in_threads(claim, 60, count=4)
        assert sum(won) == 1
        assert len(losers) == 3
        for loser in losers:
            assert loser.current == storage.get(key)
        winner = won.index(True)
        assert storage.retrieve("flow", "task", str(number)) == (SMALL, LARGE)[winner % 2] + str(winner)
        assert payloads(registry, "Large") == winner % 2
        assert storage.delete(key)


def test_payloads_of_deleted_runs_and_tasks_go_too(registry: Registry, storage: RecordStorage) -> None:
    for number in range(3):
        storage.put(record(Key("flow", "task", str(number)), LARGE, run_id="r" if number else None))
    assert payloads(registry, "Large") == 3
    assert storage.delete_run("r") == 2
    assert payloads(registry, "Large") == 1
    assert storage.delete_task(Key("flow", "task", "0")) == 1
    assert payloads(registry, "Large") == 0


def test_purge_reaches_all(registry: Registry, storage: RecordStorage) -> None:
    storage.put(record(KEY, LARGE))
    storage.put(record(KEY, SMALL, ERROR))
    storage.store_blob(KEY, "b", LARGE.encode() * 100)
    assert storage.purge() >= 3
    for name in ("Small", "Large", "Errors"):
        assert records(registry, name).count(Query()) == 0
        assert records(registry, name).count(Query(kinds=("piece",))) == 0


def test_closing_reaches_all(registry: Registry, storage: RecordStorage) -> None:
    children = [records(registry, name) for name in ("Small", "Large", "Errors")]
    registry.close()
    assert not any(one.is_connected() for one in (storage, *children))


def test_a_listing_merges_storages_by_time(storage: RecordStorage) -> None:
    keys = [Key("flow", "task", str(number)) for number in range(30)]
    for number, key in enumerate(keys):
        storage.put(record(key, number, ERROR if number % 3 else RESULT, stored_at=1000.0 + number))
    for descending in (False, True):
        expected = keys[::-1] if descending else keys
        for limit in (1, 2, 7, 100):
            found: list[Key] = []
            cursor = None
            while True:
                page = storage.scan(Query(descending=descending), limit=limit, cursor=cursor)
                found += [one.key for one in page.records]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == expected


def test_large_payloads_are_found_after_the_routes_were_changed(
    declared: dict[str, dict[str, Any]], registry: Registry, storage: RecordStorage
) -> None:
    first = storage.put(record(KEY, LARGE)).revision
    storages = {"small": "Small", "large": "Large", "errors": "Errors"}
    with routed(declared, {"storages": storages, "default": "small"}) as changed:
        assert records(changed, "Routed").retrieve("flow", "task", "1") == LARGE
        assert records(changed, "Routed").put(record(KEY, SMALL)).revision == first + 1
        assert payloads(changed, "Large") == 0


# Write-through


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[Registry]:
    declared = {"Home": sqlite(tmp_path / "home"), "Away": files(tmp_path / "away"), "Copy": sqlite(tmp_path / "copy")}
    configuration = {
        "storages": {"home": "Home", "away": "Away", "copy": "Copy"},
        "default": "home",
        "routes": [{"storage": "away", "min_size": 1000}],
        "write_through": ["copy"],
    }
    with routed(declared, configuration) as registry:
        yield registry


def test_everything_is_written_through(mirrored: Registry) -> None:
    """The copies are whole: they can be read without the other storages."""
    storage, copies = records(mirrored, "Routed"), records(mirrored, "Copy")
    storage.put(record(KEY, SMALL))
    storage.put_many([record(Key("flow", "task", str(number)), LARGE) for number in range(3)])
    storage.add_many([record(Key("flow", "task", "added"), SMALL)])
    storage.store_blob(KEY, "blob", b"b" * 100_000)
    storage.claim(KEY, "claim")
    assert [one.payload for one in copies.records(Query(kinds=(RESULT,)))] == [
        one.payload for one in storage.records(Query(kinds=(RESULT,)))
    ]
    with copies.retrieve_blob(KEY, "blob") as file:
        assert file.read() == b"b" * 100_000
    assert not copies.claim(KEY, "claim")
    storage.delete_many([Ref(RESULT, KEY)])
    storage.delete_blob(KEY, "blob")
    storage.release(KEY, "claim")
    with pytest.raises(NotFoundError):
        copies.get(KEY)
    assert not copies.has_blob(KEY, "blob")
    assert storage.count(Query()) == copies.count(Query()) == 3


def test_copies_follow_the_last_of_many_writers(mirrored: Registry) -> None:
    storage, copies = records(mirrored, "Routed"), records(mirrored, "Copy")

    def work(barrier: Any, worker: int) -> None:
        barrier.wait()
        for turn in range(15):
            storage.put(record(KEY, f"{(SMALL, LARGE)[turn % 2]} {worker} {turn}"))

    in_threads(work, 120, count=4)
    assert copies.get(KEY).payload == storage.get(KEY).payload
    assert copies.count(Query()) == storage.count(Query()) == 1


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_copy_that_was_overtaken_is_written_again(tmp_path: Path, change: str) -> None:
    """Between the two writes of one process, another one changes the record in both places."""
    declared = {
        "Home": sqlite(tmp_path / "home"),
        "Copy": {"classname": "Interrupted", "import": Interrupted.__module__},
    }
    storages = {"home": "Home", "copy": "Copy"}
    with routed(declared, {"storages": storages, "default": "home", "write_through": ["copy"]}) as registry:
        storage, copies = records(registry, "Routed"), records(registry, "Copy")
        Interrupted.before_next = lambda: (
            storage.put(record(KEY, "second")) if change == "replaced" else storage.delete(KEY)
        )
        storage.put(record(KEY, "first"))
        if change == "replaced":
            assert storage.retrieve("flow", "task", "1") == copies.retrieve("flow", "task", "1") == "second"
        else:
            assert storage.count(Query()) == copies.count(Query()) == 0


def test_a_copy_that_can_not_be_written_is_named(mirrored: Registry, tmp_path: Path) -> None:
    storage, copies = records(mirrored, "Routed"), records(mirrored, "Copy")
    copies.disconnect()
    (tmp_path / "copy.db").rename(tmp_path / "moved.db")
    (tmp_path / "copy.db").mkdir()
    one = record(KEY, SMALL)
    with pytest.raises(UnreachableError, match=r"changed at home, but not in the write_through storage 'copy'"):
        storage.put(one, if_revision=0)
    first = storage.get(KEY).revision
    (tmp_path / "copy.db").rmdir()
    (tmp_path / "moved.db").rename(tmp_path / "copy.db")
    assert storage.put(one, if_revision=0).revision == first, "the same write, tried again"
    assert records(mirrored, "Copy").get(KEY).payload == one.payload
