"""Lost answers, killed writers, crowded pools, forks and wrong clocks, counted."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flowstore.storages
from flowstore.errors import ConflictError, ExpiredError, FlowstoreError, OutcomeUnknownError, StorageError
from flowstore.record import Key, Query
from flowstore.storage import RecordStorage
from flowstore.testing import Adapter, record
from flowstore.testing.aspects.processes import kill_writers
from flowstore.testing.concurrency import in_child, in_threads, wait_for
from tests.reliability.figures import Figures
from tests.servers.proxy import Proxy, proxy
from tests.storages.places import SERVERS, SHARED
from tests.storages.storage_kit import Recipe, make, opened

pytest_plugins = ("tests.storages.every_storage",)
pytestmark = pytest.mark.each_time("file", "sqlite", "postgres", "redis", "mongo")

LOST = "an answer is lost and the put repeated: answers lost, outcomes unknown, false conflicts"
KILLED = "a writer is killed in the middle: kills, acknowledged, lost, torn"
CROWD = "64 threads and a pool of 4: calls, errors of flowstore's own, others, threads that hang"
FORKS = "forked with a connection: operations, wrong values"
CLOCKS = "clients' clocks wrong by an hour: records, early or late"

LOSSES = int(os.environ.get("FLOWSTORE_TEST_LOSSES", "20"))
KILLS = int(os.environ.get("FLOWSTORE_TEST_KILLS", "20"))
_ADDRESS = re.compile(r"(127\.0\.0\.1|localhost):(\d+)")


@contextmanager
def behind(recipe: Recipe) -> Iterator[tuple[Recipe, Proxy]]:
    """Put a proxy in front of a recipe's server."""
    name, configuration = recipe
    ((key, at),) = ((key, at) for key, value in configuration.items() if (at := _ADDRESS.search(str(value))))
    with proxy(int(at[2]), at[1]) as middle:
        address = f"127.0.0.1:{middle.port}"
        value = configuration[key]
        yield (name, {**configuration, key: value[: at.start()] + address + value[at.end() :]}), middle


def lose_answers(storage: RecordStorage, middle: Proxy, renew_token: bool) -> dict[str, int]:
    """Lose the answer to each put, repeat it, and count the conflicts that it has with itself."""
    counts = {"lost": 0, "unknown": 0, "false_conflicts": 0}
    for number in range(LOSSES):
        mine = record(Key("flow", "task", str(number)), number)
        storage.get_many([mine.ref])  # there is a connection
        before = middle.lost
        middle.lose_answers = True
        try:
            storage.put(mine, if_revision=0)
        except OutcomeUnknownError:
            counts["unknown"] += 1
        except StorageError:
            pass
        finally:
            middle.lose_answers = False
        counts["lost"] += middle.lost > before
        if renew_token:
            mine = record(mine.key, number)
        try:
            stored = _patiently(lambda mine=mine: storage.put(mine, if_revision=0))
            assert _patiently(lambda mine=mine: storage.get(mine.key)) == stored
        except ConflictError:
            counts["false_conflicts"] += 1
    return counts


def _patiently(attempt: Any) -> Any:
    """Try again while the connections that were cut are found to be."""
    until = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except ConflictError:
            raise
        except StorageError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_lost_answer_is_no_conflict(kind: str, recipe: Recipe, figures: Figures) -> None:
    with behind(recipe) as (behind_proxy, middle), opened(behind_proxy) as storage:
        counts = lose_answers(storage, middle, renew_token=False)
    figures.note(LOST, kind, **counts)
    assert counts["false_conflicts"] == 0
    assert counts["lost"] == counts["unknown"] == LOSSES


@pytest.mark.parametrize("kind", ["redis"])
def test_without_its_token_a_repeated_put_has_a_conflict_with_itself(
    kind: str, recipe: Recipe, figures: Figures
) -> None:
    with behind(recipe) as (behind_proxy, middle), opened(behind_proxy) as storage:
        counts = lose_answers(storage, middle, renew_token=True)
    figures.planted(LOST, "a token for each try", **counts)
    assert counts["false_conflicts"] > 0


@pytest.mark.parametrize("kind", SHARED)
def test_a_killed_writer_leaves_nothing_torn(kind: str, recipe: Recipe, figures: Figures) -> None:
    name, configuration = recipe
    adapter = Adapter(getattr(flowstore.storages, name), configuration)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    acknowledged = kill_writers(adapter, KILLS, chance)
    with adapter.opened() as storage:
        lost, torn = _examine(storage, acknowledged)
    figures.note(KILLED, kind, kills=KILLS, acknowledged=len(acknowledged), lost=lost, torn=torn, seed=seed)
    assert (lost, torn) == (0, 0)


def _examine(storage: RecordStorage, acknowledged: dict[str, int]) -> tuple[int, int]:
    """Return how many of the acknowledged records are lost, and how many of all can't be read."""
    torn = 0
    found = {}
    for one in storage.records(Query(kinds=("result",))):
        try:
            found[one.key.task_id] = len(storage.pipeline.decode(one))
        except FlowstoreError:
            torn += 1
    return sum(found.get(task_id) != size for task_id, size in acknowledged.items()), torn


def test_the_examination_finds_what_is_lost_and_torn(figures: Figures) -> None:
    with opened(("MemoryStorage", {})) as storage:
        kept = {str(number): 10 for number in range(5)}
        for task_id in kept:
            stored = record(Key("flow", "task", task_id), "x" * 10)
            storage.put(replace(stored, payload=stored.payload[:5]) if task_id == "3" else stored)
        storage.delete(Key("flow", "task", "1"))
        lost, torn = _examine(storage, kept)
    figures.planted(KILLED, "one is missing, one is cut short", acknowledged=5, lost=lost, torn=torn)
    assert (lost, torn) == (2, 1)


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_64_threads_share_4_connections(kind: str, recipe: Recipe, figures: Figures) -> None:
    name, configuration = recipe
    took: list[float] = []

    def work(barrier: Any, worker: int) -> tuple[int, int]:
        barrier.wait()
        ours = others = 0
        for number in range(10):
            began = time.perf_counter()
            try:
                storage.store("flow", str(worker), str(number), worker)
                assert storage.retrieve("flow", str(worker), str(number)) == worker
            except FlowstoreError:
                ours += 1
            except Exception:
                others += 1
            took.append(time.perf_counter() - began)
        return ours, others

    with opened((name, {**configuration, "pool_limit": 4})) as storage:
        failures = in_threads(work, 120, count=64)  # fails if a thread hangs
    ours, others = map(sum, zip(*failures, strict=True))
    p99 = sorted(took)[int(len(took) * 0.99)] * 1000
    figures.note(CROWD, kind, calls=2 * len(took), errors=ours, others=others, hanging=0, p99_ms=round(p99))
    assert others == 0
    assert len(took) == 640


@pytest.mark.parametrize("kind", SHARED)
def test_a_fork_shares_no_connection(kind: str, recipe: Recipe, figures: Figures, tmp_path: Path) -> None:
    name, configuration = recipe
    with Adapter(getattr(flowstore.storages, name), configuration).configured() as get:
        get().store("flow", "before", "1", 1)

        def use(who: str) -> int:
            wrong = 0
            for number in range(50):
                get().store("flow", who, str(number), [who, number])
                wrong += get().retrieve("flow", who, str(number)) != [who, number]
            return wrong

        def child(who: str) -> None:
            (tmp_path / who).write_text(str(use(who)))
            get().disconnect()

        pids = [in_child(lambda who=who: child(who)) for who in ("a", "b")]  # type: ignore[misc]
        wrong = use("parent")
        for pid in pids:
            wait_for(pid)
        wrong += sum(int((tmp_path / who).read_text()) for who in ("a", "b"))
    figures.note(FORKS, kind, operations=3 * 100, wrong=wrong)
    assert wrong == 0


@pytest.mark.parametrize("kind", SERVERS)
def test_expiry_is_the_servers(kind: str, recipe: Recipe, figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(recipe) as honest:
        for number in range(20):
            away = 1800 if number % 2 else -1800
            honest.put(record(Key("flow", "task", str(number)), number, expires_at=honest.now() + away))
        wrong = 0
        clock = time.time
        for error in (3600, -3600):
            monkeypatch.setattr(time, "time", lambda error=error: clock() + error)
            with opened(recipe) as client:
                wrong += _early_or_late(client)
    figures.note(CLOCKS, kind, records=40, wrong=wrong)
    assert wrong == 0


def test_finds_a_client_that_trusts_its_own_clock(figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make(("MemoryStorage", {}))
    storage.connect()
    for number in range(20):
        away = 1800 if number % 2 else -1800
        storage.put(record(Key("flow", "task", str(number)), number, expires_at=storage.now() + away))
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 3600)
    wrong = _early_or_late(storage)
    figures.planted(CLOCKS, "the process's own clock", records=20, wrong=wrong)
    assert wrong == 10


def _early_or_late(storage: RecordStorage) -> int:
    wrong = 0
    for number in range(20):
        try:
            storage.get(Key("flow", "task", str(number)))
        except ExpiredError:
            wrong += number % 2
        else:
            wrong += not number % 2
    return wrong
