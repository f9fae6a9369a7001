"""What tasks keep in a worker besides their results: checkpoints, variables, history, references."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group

from flowstore import FlowRun, HistoryEntry, NotFoundError, RemoteTaskError
from tests.celery.app.flowapp import default_settings
from tests.celery.app.state_tasks import STEPS
from tests.celery.conftest import MakeSite
from tests.celery.sites import Site, until

FLOWS = {"SQLite": "in SQLite", "files": "in files", "Redis": "in Redis"}


@pytest.fixture(scope="module")
def large_site(make_site: MakeSite, redis_url: str) -> Site:
    """A site with four children, and a storage in Redis."""

    def configuration(folder: Path) -> dict[str, Any]:
        given = default_settings(folder)["configuration"]
        entry = {"name": "Redis", "classname": "RedisStorage", "configuration": {"url": f"{redis_url}/4"}}
        return {
            "storages": [*given["storages"], entry],
            "flows": [*given["flows"], {"name": "in Redis", "storage": "Redis"}],
        }

    site = make_site(configuration=configuration)
    site.start_worker("prefork", 4)
    return site


def events(site: Site, run: FlowRun) -> list[str]:
    return [entry.event for entry in site.store.history(run_id=run.id)]


def history(site: Site, run: FlowRun, count: int) -> list[HistoryEntry]:
    """Wait for so many entries: how a task ended is noted down after its result is stored."""
    until(lambda: len(events(site, run)) >= count, f"{count} entries in the history")
    return list(site.store.history(run_id=run.id))


def steps(site: Site, name: str) -> list[str]:
    return (site.folder / f"steps of {name}").read_text().split()


# Checkpoints


@pytest.mark.parametrize("flow_name", FLOWS.values())
def test_a_retried_task_finds_its_checkpoints_again(flow_name: str, large_site: Site) -> None:
    site = large_site
    run = site.start(flow_name, "stepwise_retried")
    assert site.end_of(run) == {str(step): step + 1 for step in range(STEPS)}
    (task,) = run.tasks()
    assert task.attempt == STEPS + 1
    assert steps(site, task.id) == [str(step) for step in range(STEPS)], "a step was done twice"
    checkpoints = site.store.checkpoints(flow_name, "stepwise_retried", task.id)
    assert dict(checkpoints.items()) == site.end_of(run)


@pytest.mark.parametrize(
    ("broker", "flow_name"), [("folder", "in SQLite"), ("folder", "in files"), ("redis", "in SQLite")]
)
def test_a_task_whose_worker_is_killed_finds_its_checkpoints_again(
    broker: str, flow_name: str, make_site: MakeSite, request: pytest.FixtureRequest
) -> None:
    urls = {}
    if broker == "redis":
        url = request.getfixturevalue("redis_url")
        urls = {"broker": f"{url}/5", "backend": f"{url}/6"}
    site = make_site(**urls)
    worker = site.start_worker("prefork", 1)
    run = site.start(flow_name, "stepwise_killed", "it")
    first = int(until(lambda: reads(site.folder / "hanging it")))
    worker.kill()
    assert run.tasks() == []
    site.redeliver()
    site.start_worker("prefork", 1)
    done = site.end_of(run)
    assert [done[str(step)] for step in range(2)] == [first, first]
    assert first not in [done[str(step)] for step in range(2, STEPS)]
    assert steps(site, "it") == [str(step) for step in range(STEPS)], "a step was done twice"


def test_a_task_whose_process_is_killed_finds_its_checkpoints_again(site: Site) -> None:
    run = site.start("killed child", "stepwise_killed", "child")
    first = int(until(lambda: reads(site.folder / "hanging child")))
    os.kill(first, signal.SIGKILL)
    done = site.end_of(run)
    assert [done[str(step)] == first for step in range(STEPS)] == [True, True, False, False]
    assert steps(site, "child") == [str(step) for step in range(STEPS)], "a step was done twice"


def reads(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_checkpoints_are_of_one_task_only(site: Site) -> None:
    runs = [site.start("apart", "stepwise_retried") for _ in range(2)]
    assert [site.end_of(run) for run in runs] == [{str(step): step + 1 for step in range(STEPS)}] * 2


def test_an_eager_task_finds_its_checkpoints_too(site: Site) -> None:
    result = site.app.tasks["stepwise_retried"].apply()
    assert result.get() == {str(step): step + 1 for step in range(STEPS)}


# Variables


@pytest.mark.parametrize("flow_name", FLOWS.values())
def test_no_count_of_many_children_is_lost(flow_name: str, large_site: Site) -> None:
    site = large_site
    before = site.store.variables(flow_name).get("count", 0)
    runs = [site.store.start(flow_name, group(site.si("count", 10) for _ in range(6))) for _ in range(2)]
    pids = {pid for run in runs for pid in site.end_of(run)}
    assert len(pids) > 1, "one child did everything: nothing was concurrent"
    for run in runs:  # each has its own
        variables = site.store.variables(flow_name, run_id=run.id)
        assert variables["count"] == 60
        assert set(variables["pids"]) <= pids
    assert site.store.variables(flow_name)["count"] == before + 120


def test_a_lost_count_would_be_noticed(large_site: Site) -> None:
    site = large_site
    run = site.store.start("in files", group(site.si("count_carelessly", 50) for _ in range(4)))
    site.end_of(run)
    assert site.store.variables("in files", run_id=run.id)["count"] < 200


@pytest.mark.parametrize("flow_name", FLOWS.values())
def test_of_many_tasks_one_is_elected(flow_name: str, large_site: Site) -> None:
    site = large_site
    run = site.store.start(flow_name, group(site.si("elect") for _ in range(12)))
    (leader,) = set(site.end_of(run))
    assert leader in {task.id for task in run.tasks()}


def test_all_tasks_of_a_canvas_share_the_variables_of_their_run(site: Site) -> None:
    canvas = chain(site.si("count", 1), chord([site.si("count", 1), site.si("count", 1)], site.si("count", 1)))
    run = site.store.start("canvas", canvas)
    site.end_of(run)
    assert site.store.variables("canvas", run_id=run.id)["count"] == 4


def test_a_task_outside_of_a_flow_has_them_too(site: Site) -> None:
    result = site.sig("count", 3).apply_async()
    site.result_of("count", "count", result.id)
    assert site.store.variables("count", run_id=result.id)["count"] == 3


# History


def test_the_ends_of_tasks_are_noted_where_that_is_configured(site: Site) -> None:
    run = site.store.start("noted", chain(site.sig("autoretried", 2), site.sig("plain_of_anything")))
    site.end_of(run)
    found = history(site, run, 4)
    # The next attempt may be over before this one is noted: Celery sends its message first.
    first, second, third, last = sorted(
        found, key=lambda entry: (entry.task_name != "autoretried", entry.data["attempt"])
    )
    assert [entry.event for entry in (first, second, third, last)] == [
        "task-retried",
        "task-retried",
        "task-succeeded",
        "task-succeeded",
    ]
    assert (first.flow_name, first.run_id, first.task_name) == ("noted", run.id, "autoretried")
    assert first.data["error"] == "ValueError: attempt 1"
    assert (first.data["attempt"], third.data["attempt"]) == (1, 3)
    assert third.data["worker"].endswith("@test")
    assert third.data["started_at"] <= third.data["finished_at"]
    assert "error" not in third.data
    assert last.task_name == "plain_of_anything"


def test_only_bad_ends_are_noted_where_only_errors_are_wanted(site: Site) -> None:
    # The second task is sent after the first one's end is noted.
    run = site.store.start("errors noted", chain(site.sig("autoretried", 1), site.sig("plain_of_anything")))
    site.end_of(run)
    assert [entry.event for entry in history(site, run, 1)] == ["task-retried"]
    failing = site.start("errors noted", "fail")
    assert isinstance(site.end_of(failing), RemoteTaskError)
    (entry,) = history(site, failing, 1)
    assert (entry.event, entry.data["error"]) == ("task-failed", "ValueError: no luck")


def test_nothing_is_noted_where_nothing_is_configured(site: Site) -> None:
    run = site.store.start("quiet", chain(site.sig("autoretried", 1), site.sig("plain_of_anything")))
    site.end_of(run)
    assert events(site, run) == []


def test_a_lost_process_and_a_revoked_task_are_noted_once(site: Site) -> None:
    lost = site.start("noted", "die", "exit")
    assert isinstance(site.end_of(lost), RemoteTaskError)
    late = site.start("noted", "plain", 1, expires=0.001)
    assert isinstance(site.end_of(late), RemoteTaskError)
    assert [entry.event for entry in history(site, lost, 1)] == ["task-failed"]
    assert [entry.event for entry in history(site, late, 1)] == ["task-revoked"]


def test_a_task_adds_its_own_entries(site: Site) -> None:
    run = site.start("remarks", "remark", "approved")
    site.end_of(run)
    (entry,) = site.store.history("remarks", run_id=run.id)
    (task,) = run.tasks()
    assert (entry.event, entry.task_name, entry.task_id, entry.data) == ("approved", "remark", task.id, {"attempt": 1})


@pytest.mark.parametrize("name", ["unstored", "readonly"])
def test_nothing_is_noted_of_a_task_that_is(name: str, site: Site) -> None:
    run = site.store.start("noted", chain(site.sig(name, "x"), site.sig("plain_of_anything")))
    site.end_of(run)
    assert [entry.task_name for entry in history(site, run, 1)] == ["plain_of_anything"]


# Runs and references


def test_what_a_run_kept_goes_with_it_but_for_its_history(large_site: Site) -> None:
    site = large_site
    canvas = chain(site.si("stepwise_retried"), site.si("count", 1), site.si("remark", "done"))
    run, other = (site.store.start("in files", canvas) for _ in range(2))
    for each in (run, other):
        site.end_of(each)
    assert site.store.delete_run(run.id) > STEPS
    assert {record.kind for _, record in site.store._run_reader.records(run.id)} == {"history"}
    assert events(site, run) == ["done"]
    with pytest.raises(NotFoundError):
        site.store.run(run.id)
    kinds = {record.kind for _, record in site.store._run_reader.records(other.id)}
    assert kinds == {"run", "result", "error", "checkpoint", "variable", "history"}


def test_a_reference_reaches_a_task_and_is_loaded_there(site: Site) -> None:
    rows = [[number, "x" * 100] for number in range(100)]
    run = site.start("referring", "echo", rows)
    site.end_of(run)
    (task,) = run.tasks()
    loaded = site.start("referring", "load", site.store.reference("referring", "echo", task.id))
    assert site.end_of(loaded) == rows
