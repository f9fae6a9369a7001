"""Eager mode: no worker and no messages, but the same results and errors."""

from __future__ import annotations

import pytest
from celery import chain, chord, group

from flowstore import FlowRun, Query, RecordStorage, RemoteTaskError
from flowstore.record import ERROR
from tests.celery.conftest import MakeSite
from tests.celery.sites import Site


@pytest.fixture(scope="module")
def eager(make_site: MakeSite) -> Site:
    return make_site(celery={"task_always_eager": True})


@pytest.fixture(scope="module")
def propagating(make_site: MakeSite) -> Site:
    return make_site(celery={"task_always_eager": True, "task_eager_propagates": True})


def states(run: FlowRun) -> dict[str, str]:
    return {task.name: task.state for task in run.tasks()}


@pytest.mark.parametrize(
    "name", ["plain", "bound", "own_call", "own_call_to_super", "by_class", "shared", "before_attach"]
)
def test_the_result_is_stored_of(name: str, eager: Site) -> None:
    run = eager.start("eager kinds", name, 21)
    assert run.get(timeout=10) == 42
    assert states(run) == {name: "SUCCESS"}


def test_a_task_sent_outside_of_a_flow_is_a_flow_of_its_own(eager: Site) -> None:
    result = eager.sig("echo", "value").apply_async()
    assert eager.store.retrieve("echo", "echo", result.id) == "value"


def test_a_chain_is_one_run(eager: Site) -> None:
    run = eager.store.start("eager chain", chain(eager.sig("echo", 1), eager.sig("plain"), eager.sig("plain")))
    assert run.get(timeout=10) == 4
    assert [(task.name, task.headers["run_id"]) for task in run.tasks()] == [
        ("echo", run.id),
        ("plain", run.id),
        ("plain", run.id),
    ]


def test_a_group_is_one_run(eager: Site) -> None:
    run = eager.store.start("eager group", group(eager.sig("plain", number) for number in range(3)))
    assert run.get(timeout=10) == [0, 2, 4]
    assert len(run.tasks()) == 3


def test_a_chord_is_one_run_and_its_body_finds_the_header(eager: Site) -> None:
    run = eager.store.start("eager chord", chord([eager.si("a"), eager.si("b")], eager.si("c")))
    assert run.get(timeout=10)["saw"] == {"a": ["a"], "b": ["b"]}
    assert states(run) == {"a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}


def test_an_error_is_stored(eager: Site) -> None:
    run = eager.start("eager error", "fail")
    with pytest.raises(RemoteTaskError, match="no luck"):
        run.get(timeout=10)
    assert states(run) == {"fail": "FAILURE"}


def test_an_error_that_propagates_is_stored_too(propagating: Site) -> None:
    with pytest.raises(ValueError, match="no luck"):
        propagating.start("eager error", "fail")
    storage = propagating.store.storage("Main")
    assert isinstance(storage, RecordStorage)
    (record,) = storage.records(Query((ERROR,), "eager error"))
    assert record.key.task_name == "fail"
    assert record.headers["error"] == "ValueError: no luck"


@pytest.mark.parametrize("name", ["autoretried", "retried_with_exc", "retried_bare"])
def test_attempts_are_kept_apart(name: str, eager: Site) -> None:
    run = eager.start("eager retries", name, 2)
    assert run.get(timeout=10)["attempt"] == 3
    (task,) = run.tasks()
    assert (task.state, task.attempt, task.failed_attempts) == ("SUCCESS", 3, (1, 2))


def test_nothing_is_stored_of_a_task_without_a_storage(eager: Site) -> None:
    result = eager.sig("unstored", 1).apply_async()
    assert result.get() == 1
    assert list(eager.store._run_reader.records(result.id)) == []


def test_apply_without_eager_mode_stores(site: Site) -> None:
    result = site.sig("echo", 7).apply()
    assert site.store.retrieve("echo", "echo", result.id) == 7
