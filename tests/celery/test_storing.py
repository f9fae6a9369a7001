"""What a worker stores of tasks that return, and what storages in trouble do to them."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain

from flowstore import Key, NotFoundError, RemoteTaskError
from tests.celery.adapters import LedgerStorage
from tests.celery.sites import Site, until

KINDS = [
    "plain",
    "bound",
    "own_call",
    "own_call_to_super",
    "by_class",
    "shared",
    "pydantic_task",
    "before_attach",
    "after_finalize",
    "ignoring_result",
]


@pytest.mark.parametrize("name", KINDS)
def test_the_result_is_stored_of_a_task_that_is(name: str, site: Site) -> None:
    run = site.start("kinds", name, 21)
    assert site.end_of(run) == 42
    (task,) = run.tasks()
    assert (task.name, task.state, task.attempt, task.storage) == (name, "SUCCESS", 1, "Main")
    assert task.size == 2
    assert task.worker is not None
    assert task.worker.endswith("@test")
    assert task.published_at is not None
    assert task.started_at is not None
    assert task.finished_at is not None
    assert task.published_at <= task.started_at <= task.finished_at


def test_a_task_called_directly_inside_a_task_stores_nothing(site: Site) -> None:
    run = site.start("direct", "calling_directly", 21)
    assert site.end_of(run) == [42, 42, 42]
    assert [task.name for task in run.tasks()] == ["calling_directly"]


def test_a_task_applied_inside_a_task_is_part_of_its_run(site: Site) -> None:
    run = site.start("applied", "applying", 21)
    assert site.end_of(run) == 42
    assert {task.name: task.state for task in run.tasks()} == {"applying": "SUCCESS", "plain": "SUCCESS"}


def test_an_aliased_task_reads_back_what_it_stored_by_both_names(site: Site) -> None:
    run = site.start("aliases", "aliased", "mine")
    assert site.end_of(run) == "mine"
    (task,) = run.tasks()
    assert task.name == "nickname"
    assert task.headers["celery_task"] == "aliased"
    for name in ("aliased", "nickname"):
        assert site.store.retrieve("aliases", name, task.id) == "mine"
    assert site.store.storage("Main").retrieve("aliases", "nickname", task.id) == "mine"
    with pytest.raises(NotFoundError):
        site.store.storage("Main").retrieve("aliases", "aliased", task.id)


def test_a_successor_finds_an_aliased_parent(site: Site) -> None:
    run = site.store.start("aliases", chain(site.sig("aliased", "mine"), site.sig("look")))
    assert [name for name, _ in site.end_of(run)["parents"]] == ["nickname"]


@pytest.mark.parametrize("name", ["unstored", "readonly"])
def test_nothing_is_stored_of_a_task_that_is(name: str, site: Site) -> None:
    result = site.sig(name, "value").apply_async()
    assert site.celery_end(result.id) == "SUCCESS"
    assert site.app.AsyncResult(result.id).get(timeout=10) == "value"
    assert list(site.store._run_reader.records(result.id)) == []


def test_nothing_is_stored_of_an_error_of_a_task_without_a_storage(site: Site) -> None:
    result = site.sig("unstored_fail").apply_async()
    assert site.celery_end(result.id) == "FAILURE"
    assert list(site.store._run_reader.records(result.id)) == []


def test_a_task_sent_outside_of_a_flow_is_a_flow_of_its_own(site: Site) -> None:
    result = site.sig("look").apply_async()
    seen = site.result_of("look", "look", result.id)
    assert (seen["flow"], seen["run"]) == ("look", result.id)
    assert [task.key for task in site.store.run(result.id).tasks()] == [Key("look", "look", result.id)]


def test_a_result_that_the_schema_refuses_fails_the_task_and_is_not_stored(site: Site) -> None:
    assert site.end_of(site.start("schema", "checked", {"price": 1})) == {"price": 1}
    error = site.end_of(site.start("schema", "checked", {"price": "much"}))
    assert isinstance(error, RemoteTaskError)
    assert error.failure.type_name == "ResultSchemaError"
    assert "$.price" in error.failure.message
    assert site.celery_end(error.key.task_id) == "FAILURE"
    assert site.store.retrieve(*parts(error.key), default="none") == "none"


def parts(key: Key) -> tuple[str, str, str]:
    return key.flow_name, key.task_name, key.task_id


def test_a_result_that_cannot_be_serialized_names_the_place_and_leaves_an_older_one(site: Site) -> None:
    task_id = "good, then bad"
    site.store.start("serializing", site.sig("unserializable", True), task_id=task_id)
    assert site.result_of("serializing", "unserializable", task_id) == {"rows": [{"when": 1}]}
    site.store.start("serializing", site.sig("unserializable", False), task_id=task_id)
    failure = site.error_of("serializing", "unserializable", task_id).failure
    assert failure.type_name == "SerializationError"
    assert "$.rows[0].when" in failure.message
    assert "module" in failure.message
    assert site.store.retrieve("serializing", "unserializable", task_id) == {"rows": [{"when": 1}]}


HOSTILE = [
    "../../x",
    "..",
    "/etc/passwd",
    "a/b",
    "nul\0in",
    "%2e%2e",
    "x" * 1024,
    "ünï",
    "u\u0308",
    "ü",
    "İ",
    "a:b",
    " ",
    "A",
    "a",
    "CON",
]


def test_hostile_task_ids_come_back_exactly_from_the_ledger_of_a_worker(site: Site) -> None:
    # With Celery's own results ignored: its file backend would write such an id as a path.
    for number, task_id in enumerate(HOSTILE):
        site.store.start("hos/../tile", site.sig("ignoring_result", number), task_id=task_id)
    for number, task_id in enumerate(HOSTILE):
        assert site.result_of("hos/../tile", "ignoring_result", task_id) == 2 * number


def test_a_redelivered_task_replaces_its_result(site: Site) -> None:
    for value in ("first", "second"):
        site.store.start("redelivery", site.sig("echo", value), task_id="replace")
        until(lambda value=value: site.result_of("redelivery", "echo", "replace") == value)  # type: ignore[misc]


def test_a_redelivered_task_keeps_its_first_result_under_on_conflict_keep(site: Site) -> None:
    first = site.store.start("redelivery", site.sig("redelivered_keep", "first"), task_id="keep")
    assert site.end_of(first) == "first"
    again = site.store.start(
        "redelivery", chain(site.sig("redelivered_keep", "second", task_id="keep"), site.sig("echo"))
    )
    assert site.end_of(again) == "second"
    assert site.store.retrieve("redelivery", "redelivered_keep", "keep") == "first"


def test_another_result_fails_a_redelivered_task_under_on_conflict_error(site: Site) -> None:
    assert site.end_of(site.store.start("redelivery", site.sig("redelivered_error", 1), task_id="error")) == 1
    # The same result again is no conflict.
    again = site.store.start("redelivery", chain(site.sig("redelivered_error", 1, task_id="error"), site.sig("echo")))
    assert site.end_of(again) == 1
    site.store.start("redelivery", site.sig("redelivered_error", 2), task_id="error")
    failure = site.error_of("redelivery", "redelivered_error", "error").failure
    assert failure.type_name == "ConflictError"
    assert site.store.retrieve("redelivery", "redelivered_error", "error") == 1


# Storages in trouble


@pytest.mark.parametrize("policy", ["retry", "fail"])
def test_a_task_fails_with_our_error_if_its_storage_is_down_under(policy: str, site: Site) -> None:
    with site.switched_off():
        result = site.sig(f"store_on_{policy}", 1).apply_async()
        assert site.celery_end(result.id) == "FAILURE"
    error = site.app.AsyncResult(result.id).result
    assert type(error).__name__ == "UnreachableError"
    assert "switched off" in str(error)
    assert f"the error of {f'store_on_{policy}'!r}" in site.workers[0].log


def test_a_task_succeeds_with_a_line_in_the_log_if_its_storage_is_down_under_log(site: Site) -> None:
    with site.switched_off():
        run = site.sig("store_on_log", "lost").apply_async()
        assert site.celery_end(run.id) == "SUCCESS"
        lines = [line for line in site.workers[0].log.splitlines() if run.id in line and "is lost" in line]
        assert len(lines) == 1
        assert "ERROR" in lines[0]
        assert "'Log'" in lines[0]
    assert site.store.retrieve("store_on_log", "store_on_log", run.id, default="none") == "none"


def test_a_storage_that_comes_back_gets_the_result_under_retry(site: Site) -> None:
    with site.switched_off(times=3):
        result = site.sig("store_on_retry", "kept").apply_async()
        assert site.result_of("store_on_retry", "store_on_retry", result.id) == "kept"
    assert site.celery_end(result.id) == "SUCCESS"


def test_a_successor_does_not_run_if_a_result_is_not_stored(site: Site) -> None:
    with site.switched_off():
        result = chain(site.sig("store_on_fail", 1), site.sig("echo")).apply_async()
        assert site.celery_end(result.parent.id) == "FAILURE"
        # Sent later, done earlier than a successor could be.
        assert site.end_of(site.store.start("afterwards", chain(site.si("a"), site.si("b")))) is not None
    assert site.store.retrieve("store_on_fail", "echo", result.id, default="none") == "none"


@pytest.mark.parametrize("name", ["fail_on_retry", "fail_on_fail", "fail_on_log", "broken_fail"])
def test_a_failing_storage_does_not_mask_the_error_of(name: str, site: Site) -> None:
    with site.switched_off():
        result = site.sig(name, "the task's own").apply_async()
        assert site.celery_end(result.id) == "FAILURE"
    error = site.app.AsyncResult(result.id).result
    assert (type(error).__name__, str(error)) == ("ValueError", "the task's own")
    until(lambda: f"the error of '{name}'" in site.workers[0].log)


def test_an_adapter_that_raises_anything_fails_the_task_with_our_error(site: Site) -> None:
    result = site.sig("broken", 1).apply_async()
    assert site.celery_end(result.id) == "FAILURE"
    error = site.app.AsyncResult(result.id).result
    assert type(error).__name__ == "StorageError"
    assert "ZeroDivisionError: broken on purpose" in str(error)


# A user's own adapter


def test_an_own_adapter_stores_results_and_errors(site: Site) -> None:
    result = site.sig("ledger", {"own": [1, 2]}).apply_async()
    assert site.result_of("ledger", "ledger", result.id) == {"own": [1, 2]}
    failing = site.sig("ledger_fail", "in the ledger").apply_async()
    assert site.celery_end(failing.id) == "FAILURE"
    storage: Any = site.store.storage("LedgerStorage")
    assert type(storage) is LedgerStorage
    (error,) = [path for path in (site.folder / "ledger").glob("*.error") if "in the ledger" in path.read_text()]
    assert "ValueError" in error.read_text()


def test_an_own_adapter_without_store_error_works_and_the_log_tells(site: Site) -> None:
    result = site.sig("results_only", 5).apply_async()
    assert site.result_of("results_only", "results_only", result.id) == 5
    failing = site.sig("results_only_fail").apply_async()
    assert site.celery_end(failing.id) == "FAILURE"
    assert type(site.app.AsyncResult(failing.id).result) is ValueError
