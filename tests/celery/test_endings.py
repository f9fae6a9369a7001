"""How tasks end other than by a result: what is stored, with which attempt, and whether errbacks know their flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group

from flowstore import Failure, FlowRun, RemoteTaskError, TaskRun
from tests.celery.sites import Site, until

# Signature, task name, and the class and text of the stored error.
ENDINGS: dict[str, tuple[Callable[[Site], Any], str, str, str]] = {
    "error": (lambda s: s.si("fail"), "fail", "ValueError", "no luck"),
    "error that can't be pickled": (lambda s: s.si("fail_strangely"), "fail_strangely", "StrangeError", "strange"),
    "hard time limit": (lambda s: s.si("sleep", time_limit=1), "sleep", "TimeLimitExceeded", "1"),
    "soft time limit": (lambda s: s.si("sleep", soft_time_limit=1), "sleep", "SoftTimeLimitExceeded", ""),
    "process that exits": (lambda s: s.si("die", "exit"), "die", "WorkerLostError", "Worker exited prematurely"),
    "process that is killed": (lambda s: s.si("die", "kill"), "die", "WorkerLostError", "Worker exited prematurely"),
    "KeyboardInterrupt": (
        lambda s: s.si("fail_below_exception"),
        "fail_below_exception",
        "WorkerLostError",
        "KeyboardInterrupt",
    ),
    "rejected for good": (lambda s: s.si("rejected"), "rejected", "Reject", "no"),
    "autoretry_for, too often": (lambda s: s.si("autoretried", 9), "autoretried", "ValueError", "attempt 4"),
    "retry(exc=), too often": (lambda s: s.si("retried_with_exc", 9), "retried_with_exc", "OSError", "attempt 3"),
    "retry(), too often": (
        lambda s: s.si("retried_bare", 9),
        "retried_bare",
        "MaxRetriesExceededError",
        "retried_bare",
    ),
}


@pytest.fixture(scope="module")
def ended(site: Site) -> dict[str, FlowRun]:
    """All of them at the same time: it takes Celery ten seconds to give up a lost process."""
    errback = site.sig("errback")
    return {
        name: site.store.start(f"flow of {name}", build(site).on_error(errback))
        for name, (build, *_) in ENDINGS.items()
    }


def task_of(run: FlowRun, name: str) -> TaskRun:
    (found,) = [task for task in run.tasks() if task.name == name]
    return found


def told(failure: Failure) -> str:
    return f"{failure.type_name} {failure.message}"


@pytest.mark.parametrize("name", ENDINGS)
def test_stored_is_the_error_of_a_task_with(name: str, site: Site, ended: dict[str, FlowRun]) -> None:
    _, task_name, type_name, text = ENDINGS[name]
    run = ended[name]
    until(lambda: any(task.name == "errback" for task in run.tasks()), f"the errback of {name}")
    task = task_of(run, task_name)
    assert task.state == "FAILURE"
    error = site.store.retrieve_error(run.flow_name, task_name, task.id)
    assert error.failure.type_name.rpartition(".")[2] == type_name
    assert text in error.failure.message
    assert error.headers["run_id"] == run.id
    assert site.store.retrieve(run.flow_name, task_name, task.id, default="none") == "none"
    with pytest.raises(RemoteTaskError) as caught:
        run.get(timeout=10)
    assert caught.value.key == task.key


@pytest.mark.parametrize("name", ENDINGS)
def test_an_errback_belongs_to_the_flow_and_run_after(name: str, site: Site, ended: dict[str, FlowRun]) -> None:
    run = ended[name]
    # One sent by the worker's parent process may be sent twice by Celery.
    until(lambda: any(task.name == "errback" for task in run.tasks()), f"the errback of {name}")
    for task in run.tasks():
        if task.name == "errback":
            seen = site.store.retrieve(run.flow_name, "errback", task.id)
            assert (seen["flow"], seen["run"]) == (run.flow_name, run.id)
            assert [parent.task_name for parent in task.parents] == [ENDINGS[name][1]]


def test_an_error_shows_its_cause_and_where_it_was_raised(site: Site, ended: dict[str, FlowRun]) -> None:
    run = ended["error"]
    task = task_of(run, "fail") if run.tasks() else until(lambda: task_of(run, "fail"))
    text = str(site.store.retrieve_error(run.flow_name, "fail", task.id))
    assert "KeyError: 'missing'" in text
    assert "The above exception was the direct cause" in text
    assert "raise ValueError(message) from exc" in text
    assert "recording.py" not in text
    assert "celery/app/trace.py" not in text


RETRIED = {
    "autoretry_for": ("autoretried", 2, ["ValueError attempt 1", "ValueError attempt 2"]),
    "retry(exc=)": ("retried_with_exc", 2, ["OSError attempt 1", "OSError attempt 2"]),
    "retry()": ("retried_bare", 2, ["Retry Retry in 0s", "Retry Retry in 0s"]),
}


@pytest.mark.parametrize("name", RETRIED)
def test_a_retried_task_leaves_its_result_and_the_errors_of_earlier_attempts_apart(name: str, site: Site) -> None:
    task_name, failures, errors = RETRIED[name]
    run = site.start(f"retried by {name}", task_name, failures)
    assert site.end_of(run)["attempt"] == failures + 1
    (task,) = run.tasks()
    assert (task.state, task.attempt, task.failed_attempts) == ("SUCCESS", 3, (1, 2))
    assert [told(error.failure) for error in site.store.errors(run.flow_name, task_name, task.id)] == errors
    for attempt in (1, 2):
        error = site.store.retrieve_error(run.flow_name, task_name, task.id, attempt=attempt)
        assert (error.attempt, told(error.failure)) == (attempt, errors[attempt - 1])
        assert error.headers["state"] == "RETRY"
    assert site.store.retrieve_error(run.flow_name, task_name, task.id, default="none") == "none"


def test_a_task_that_is_retried_too_often_leaves_every_attempts_error(site: Site, ended: dict[str, FlowRun]) -> None:
    run = ended["autoretry_for, too often"]
    until(lambda: [task for task in run.tasks() if task.state == "FAILURE"])
    task = task_of(run, "autoretried")
    assert (task.attempt, task.failed_attempts) == (4, (1, 2, 3))
    errors = site.store.errors(run.flow_name, "autoretried", task.id)
    assert [told(error.failure) for error in errors] == [f"ValueError attempt {n}" for n in (1, 2, 3, 4)]


def test_an_ignored_task_leaves_nothing_and_its_successor_does_not_run(site: Site) -> None:
    run = site.store.start("ignored", chain(site.si("ignored"), site.si("a")))
    # The same worker has been through later tasks when these are done.
    site.end_of(site.store.start("afterwards", chain(site.si("a"), site.si("b"), site.si("c"))))
    assert run.tasks() == []


def test_a_task_that_is_redelivered_after_its_process_was_lost_leaves_a_result_only(site: Site) -> None:
    run = site.start("redelivered", "redelivered_when_lost")
    assert site.end_of(run) == "second try"
    (task,) = run.tasks()
    assert task.state == "SUCCESS"


def test_a_task_that_expired(site: Site) -> None:
    run = site.store.start("expired", site.si("a", expires=-10))
    (task,) = until(run.tasks)
    assert task.state == "REVOKED"
    assert site.error_of("expired", "a", task.id).failure.message == "expired"


def test_a_task_that_was_revoked_before_it_started(site: Site) -> None:
    run = site.store.start("revoked early", site.si("a").on_error(site.sig("errback")), countdown=3)
    task_id = run._reader.plan(run.flow_name, run.id).result[1]  # type: ignore[union-attr]
    site.app.control.revoke(task_id)
    assert site.error_of("revoked early", "a", task_id).failure.type_name == "TaskRevokedError"
    assert site.celery_end(task_id) == "REVOKED"
    assert task_of(run, "a").state == "REVOKED"


def test_a_task_that_was_revoked_while_it_ran(site: Site) -> None:
    run = site.store.start("revoked late", site.si("sleep").on_error(site.sig("errback")))
    task_id = run._reader.plan(run.flow_name, run.id).result[1]  # type: ignore[union-attr]
    until(lambda: (site.folder / "sleeping").exists() and task_id in (site.folder / "sleeping").read_text())
    site.app.control.revoke(task_id, terminate=True, signal="SIGKILL")
    assert "terminated" in site.error_of("revoked late", "sleep", task_id).failure.message
    assert site.celery_end(task_id) == "REVOKED"
    assert task_of(run, "sleep").state == "REVOKED"


def test_a_chord_whose_header_fails_leaves_an_error_of_its_body(any_site: Site) -> None:
    site = any_site
    canvas = chord([site.si("a"), site.si("fail"), site.si("b")], site.sig("c")).on_error(site.sig("errback"))
    run = site.store.start("failing chord", canvas)
    until(lambda: {"a", "b", "c", "fail", "errback"} <= {task.name for task in run.tasks()}, "the chord's end")
    body = task_of(run, "c")
    assert body.state == "FAILURE"
    assert "no luck" in site.store.retrieve_error("failing chord", "c", body.id).failure.message
    with pytest.raises(RemoteTaskError, match="no luck"):
        run.get(timeout=10)


def test_a_chord_whose_header_fails_leaves_an_error_of_each_task_of_a_group_as_body(any_site: Site) -> None:
    site = any_site
    canvas = chord([site.si("a"), site.si("fail")], group(site.sig("c"), site.sig("d")))
    run = site.store.start("failing chord with a group", canvas)
    until(lambda: {"a", "c", "d", "fail"} <= {task.name for task in run.tasks()}, "the chord's end")
    assert {task.name: task.state for task in run.tasks()} == {
        "a": "SUCCESS",
        "fail": "FAILURE",
        "c": "FAILURE",
        "d": "FAILURE",
    }


def test_a_chains_errback_belongs_to_its_flow(any_site: Site) -> None:
    site = any_site
    canvas = chain(site.si("a"), site.si("fail"), site.si("b")).on_error(site.sig("errback"))
    run = site.store.start("failing chain", canvas)
    until(lambda: {"a", "fail", "errback"} <= {task.name for task in run.tasks()}, "the errback")
    assert [parent.task_name for parent in task_of(run, "fail").parents] == ["a"]


def test_a_late_failure_never_replaces_a_success(site: Site) -> None:
    run = site.start("both", "echo", 1)
    assert site.end_of(run) == 1
    (task,) = run.tasks()
    site.store.store_error({}, "both", "echo", task.id, ValueError("late"))
    (task,) = run.tasks()
    assert task.state == "SUCCESS"
    assert site.store.retrieve("both", "echo", task.id) == 1


def test_a_chord_body_finds_the_errors_of_a_parent_by_name(site: Site) -> None:
    # An errback of the chord sees the header that failed.
    canvas = chord([site.si("a"), site.si("fail")], site.sig("b")).on_error(site.sig("parent_errors"))
    run = site.store.start("errors of parents", canvas)
    until(lambda: [task for task in run.tasks() if task.name == "parent_errors" and task.state == "SUCCESS"])
    for task in run.tasks():  # the errback of the failed task, and that of the body
        if task.name == "parent_errors":
            assert site.store.retrieve(run.flow_name, task.name, task.id) == {"fail": "ValueError: no luck"}
