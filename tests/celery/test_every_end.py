"""Each way in which a task can end, in each pool: flowstore says what Celery says."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pytest
from celery import chain
from celery.result import AsyncResult

from flowstore import FlowRun, RemoteTaskError
from flowstore.store.task_run import TaskRun
from tests.celery.conftest import MakeSite
from tests.celery.sites import PATIENCE, Site, until

ENDS = ("SUCCESS", "FAILURE", "REVOKED")


class Way(NamedTuple):
    """A way to end.

    Attributes:
        state: what Celery says.
        attempts: the numbers of the attempts that were made again.
        pools: where there is such an end.
    """

    state: str
    attempts: tuple[int, ...] = ()
    pools: str = "prefork threads solo eager"


WORKERS = "prefork threads solo"
WAYS = {
    "returns": Way("SUCCESS"),
    "returns nothing": Way("SUCCESS"),
    "own call rounds": Way("SUCCESS"),
    "own call skips": Way("SUCCESS"),
    "own call forgives": Way("SUCCESS"),
    "own backend": Way("SUCCESS"),
    "second name": Way("SUCCESS"),
    "wraps another": Way("SUCCESS"),
    "registered": Way("SUCCESS"),
    "calls itself": Way("SUCCESS"),
    "applies itself": Way("SUCCESS"),
    "fails": Way("FAILURE"),
    "fails before it starts": Way("FAILURE"),
    "own call refuses": Way("FAILURE"),
    "own backend fails": Way("FAILURE"),
    "returns what has no form": Way("FAILURE"),
    "can't be pickled": Way("FAILURE"),
    "rejects": Way("FAILURE", pools=WORKERS),
    "successor can't be sent": Way("FAILURE", pools=WORKERS),
    "ignores": Way("PENDING"),
    "own call retries": Way("SUCCESS", (1, 2)),
    "retries before it starts": Way("SUCCESS", (1, 2)),
    "retries": Way("SUCCESS", (1, 2)),
    "retries too often": Way("FAILURE", (1, 2)),
    "retries what can't be pickled": Way("FAILURE", (1, 2)),
    "nobody knows": Way("FAILURE", pools=WORKERS),
    "comes too late": Way("REVOKED", pools=WORKERS),
    "too long for itself": Way("FAILURE", pools="prefork"),
    "too long": Way("FAILURE", pools="prefork"),
    "lost": Way("FAILURE", pools="prefork"),
    "lost once": Way("SUCCESS", (1,), pools="prefork"),
}
EXPIRED = "comes too late"


class Ended(NamedTuple):
    site: Site
    run: FlowRun
    task_id: str
    result: Any  # Celery's


@pytest.fixture(scope="module", params=["prefork", "threads", "solo", "eager"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def started(pool: str, make_site: MakeSite) -> dict[str, Ended]:
    """Each way, begun; one worker for the whole table."""
    eager = pool == "eager"
    site = make_site(celery={"task_always_eager": eager, "task_store_eager_result": eager})
    if not eager:
        site.start_worker(pool, 1 if pool == "solo" else 3)
    ways = [name for name, way in WAYS.items() if pool in way.pools]
    return {name: start(site, name) for name in ways}


def start(site: Site, name: str) -> Ended:
    signature = site.app.signature(f"end {name}") if name != EXPIRED else site.si("end returns", expires=-10)
    task_id = name.replace(" ", "-")
    if name == "successor can't be sent":
        run = site.store.start(name, chain(signature.set(task_id=task_id), site.sig("echo")))
    else:
        run = site.store.start(name, signature, task_id=task_id)
    return Ended(site, run, task_id, AsyncResult(task_id, app=site.app))


def ended(started: dict[str, Ended], name: str) -> Ended:
    """Wait until a way has come to its end."""
    end = started[name]
    if WAYS[name].state in ENDS:
        end.site.celery_end(end.task_id)
        until(lambda: [task for task in end.run.tasks() if task.id == end.task_id and task.state in ENDS], name)
    return end


def task_of(end: Ended) -> TaskRun:
    (task,) = (task for task in end.run.tasks() if task.id == end.task_id)
    return task


@pytest.mark.parametrize("name", WAYS)
def test_flowstore_says_what_celery_says(name: str, pool: str, started: dict[str, Ended]) -> None:
    way = WAYS[name]
    if pool not in way.pools:
        pytest.skip(f"no such end in {pool}")
    end = ended(started, name)
    assert end.result.state == way.state
    if way.state == "PENDING":
        assert end.run.tasks() == []
        return
    task = task_of(end)
    assert (task.state, task.failed_attempts) == (end.result.state, way.attempts)
    key = (task.key.flow_name, task.name, task.id)
    if way.state == "SUCCESS":
        assert end.site.store.retrieve(*key) == end.result.result
        assert end.run.get(timeout=PATIENCE) == end.result.result
        return
    nothing = object()
    assert end.site.store.retrieve(*key, default=nothing) is nothing
    error, said = end.site.store.retrieve_error(*key).failure, end.result.result
    # Celery has a stand-in of an exception that can't be pickled, flowstore the exception.
    assert error.type_name.rpartition(".")[2] == getattr(said, "exc_cls_name", type(said).__name__)
    begin = time.monotonic()
    with pytest.raises(RemoteTaskError, match=error.type_name.rpartition(".")[2]):
        end.run.get(timeout=PATIENCE)
    assert time.monotonic() - begin < PATIENCE


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.attempts])
def test_each_attempts_error_is_kept_by_its_number(name: str, pool: str, started: dict[str, Ended]) -> None:
    if pool not in WAYS[name].pools:
        pytest.skip(f"no such end in {pool}")
    task = task_of(ended(started, name))
    errors = started[name].site.store.errors(task.key.flow_name, task.name, task.id)
    kinds = {error.failure.type_name.rpartition(".")[2] for error in errors if error.headers["state"] == "RETRY"}
    wanted = {"lost once": "WorkerLostError", "retries what can't be pickled": "NeedsArgs"}
    assert kinds == {wanted.get(name, "ZeroDivisionError" if "too often" in name else "OSError")}


def test_attempts_are_kept_where_results_are_ignored(pool: str, started: dict[str, Ended]) -> None:
    site = started["returns"].site
    run = site.start("unheard", "end retries unheard")
    assert run.get(timeout=PATIENCE) == 1 / 3
    (task,) = run.tasks()
    assert task.failed_attempts == (1, 2)
