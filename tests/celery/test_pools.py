"""Worker pools: connections belong to one process, and many threads make one of them."""

from __future__ import annotations

import os

import pytest
from celery import chain, group

from tests.celery.conftest import MakeSite
from tests.celery.sites import Site, until


def lines(site: Site, name: str) -> list[str]:
    path = site.folder / "ledger" / name
    return path.read_text().splitlines() if path.exists() else []


def ledger_pids(site: Site, count: int) -> set[tuple[int, str]]:
    """Return process and connection of as many tasks that run at the same time."""
    run = site.store.start("pids", group(site.sig("ledger_pid") for _ in range(count)))
    return {(pid, connection) for pid, connection in run.get(timeout=60)}


@pytest.mark.parametrize(("pool", "concurrency"), [("prefork", 2), ("threads", 4), ("solo", 1)])
def test_an_own_adapter_and_sqlite_work_in_the_pool(pool: str, concurrency: int, make_site: MakeSite) -> None:
    site = make_site()
    worker = site.start_worker(pool, concurrency)
    run = site.store.start("pools", chain(site.sig("ledger", 20), site.sig("echo"), site.sig("plain")))
    assert site.end_of(run) == 40
    assert [task.state for task in run.tasks()] == ["SUCCESS", "SUCCESS"]  # the ledger can't list
    assert site.result_of("pools", "ledger", run._reader.plan("pools", run.id).members[0]) == 20  # type: ignore[union-attr]
    error = site.end_of(site.start("pools", "fail"))
    assert error.failure.type_name == "ValueError"
    failing = site.sig("ledger_fail").apply_async()
    until(lambda: list((site.folder / "ledger").glob("*.error")))
    assert site.celery_end(failing.id) == "FAILURE"
    pids = {line.split()[0] for line in lines(site, "connects")}
    worker.stop()
    ours = str(os.getpid())
    assert {*lines(site, "disconnects")} - {ours} == pids - {ours}, "not every process closed its connection"


def test_32_threads_of_a_worker_make_one_connection(make_site: MakeSite) -> None:
    ledger = {"name": "LedgerStorage", "import": "tests.celery.adapters"}
    site = make_site(
        configuration=lambda folder: {
            "storages": [
                {"name": "Main", "classname": "MemoryStorage"},
                {**ledger, "configuration": {"folder": f"{folder}/ledger", "slow_connect": 0.3}},
            ],
            "tasks": [{"name": "meet", "storage": "LedgerStorage"}],
            "flows": [],
        },
    )
    worker = site.start_worker("threads", 32, "--prefetch-multiplier", "1")
    results = [site.sig("meet").apply_async() for _ in range(32)]
    connections = {site.result_of("meet", "meet", result.id) for result in results}
    assert len(connections) == 1
    assert [line.split()[0] for line in lines(site, "connects")].count(str(worker.process.pid)) == 1


def test_a_failed_connect_is_tried_again_by_the_next_use(make_site: MakeSite) -> None:
    site = make_site(
        configuration=lambda folder: {
            "storages": [
                {
                    "name": "LedgerStorage",
                    "import": "tests.celery.adapters",
                    "configuration": {"folder": f"{folder}/ledger", "failing_connects": 1},
                    "on_store_error": "fail",
                },
            ],
            "tasks": [],
            "flows": [],
            "global": {"default_storage": "LedgerStorage"},
        },
    )
    worker = site.start_worker("solo", 1)
    first, second = (site.sig("echo", number).apply_async() for number in (1, 2))
    assert site.celery_end(first.id) == "FAILURE"
    error = site.app.AsyncResult(first.id).result
    assert type(error).__name__ == "UnreachableError"
    assert "ConnectionRefusedError: the ledger is closed" in str(error)
    assert site.celery_end(second.id) == "SUCCESS"
    assert [line.split()[0] for line in lines(site, "connects")] == [str(worker.process.pid)] * 2


def test_prefork_children_do_not_share_a_connection(make_site: MakeSite) -> None:
    # The worker's parent process uses both storages before it forks.
    site = make_site(celery={"worker_pool_restarts": False}, environ={"FLOWAPP_CONNECT_EARLY": "Main LedgerStorage"})
    site.start_worker("prefork", 3)
    (parent,) = {line.split()[0] for line in lines(site, "connects")} - {str(os.getpid())}
    seen: set[tuple[int, str]] = set()

    def both_children() -> bool:
        seen.update(ledger_pids(site, 9))
        return len({pid for pid, _ in seen}) >= 2

    until(both_children, "tasks in two children")
    assert parent not in {str(pid) for pid, _ in seen}
    assert len({connection for _, connection in seen}) == len({pid for pid, _ in seen})
    assert all(connection.startswith(f"{pid}-") for pid, connection in seen)
    # SQLite under the same conditions: each child's results are there, whole.
    run = site.store.start("many", group(site.sig("echo", number) for number in range(50)))
    assert run.get(timeout=60) == list(range(50))
    assert "database disk image is malformed" not in site.workers[0].log


def test_the_result_is_stored_before_the_successor_is_sent(make_site: MakeSite) -> None:
    site = make_site()
    site.start_worker("prefork", 2)
    gate, started = site.folder / "gates" / "gated", site.folder / "gates" / "successor.started"
    gate.touch()
    run = site.store.start("ordered", chain(site.sig("gated", "value"), site.sig("gated_successor")))
    until(gate.with_suffix(".reached").exists, "the first task's result on its way to the database")
    # Whatever has been sent until now is older than these, and the other process of the worker takes them in turn.
    site.end_of(site.store.start("afterwards", chain(site.si("a"), site.si("b"))))
    assert not started.exists()
    assert run.tasks() == []
    gate.unlink()
    end = site.end_of(run)
    assert (end["given"], end["stored"]) == ("value", "value")
    assert end["revision"] > 0
    assert started.exists()


def test_a_workers_children_inherit_what_their_storages_import(make_site: MakeSite) -> None:
    site = make_site()
    worker = site.start_worker("prefork", 1)
    run = site.start("pools", "has_imported", "flowstore.storages.sql.sqlite.database")
    # Before the child stored anything.
    pid, imported = site.end_of(run)
    assert imported
    assert pid != worker.process.pid
