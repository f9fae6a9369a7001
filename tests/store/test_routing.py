"""Which storage a task has, and under which name."""

from __future__ import annotations

from typing import Any

import pytest

from flowstore import UnknownStorageError
from flowstore.config import loading
from flowstore.store.routing import Router

MEMORY = [{"name": name, "classname": "MemoryStorage"} for name in ("Own", "Flow", "Default")]


def router(**configuration: Any) -> Router:
    return Router(loading.load({"storages": MEMORY, **configuration}))


FULL = {
    "tasks": [
        {"name": "own", "storage": "Own"},
        {"name": "named", "storage_task_name": "alias"},
        {"name": "off", "storage": None},
        {"name": "celery.chord_unlock", "storage": "Own"},
        {"name": "still", "storage": "Own", "storage_readonly": True},
    ],
    "flows": [{"name": "flow", "storage": "Flow"}],
    "global": {"default_storage": "Default"},
}


@pytest.mark.parametrize(
    ("flow", "task", "storage", "name"),
    [
        ("flow", "own", "Own", "own"),
        ("other", "own", "Own", "own"),
        ("flow", "named", "Flow", "alias"),
        ("flow", "alias", "Flow", "alias"),
        ("other", "named", "Default", "alias"),
        ("flow", "unknown", "Flow", "unknown"),
        ("other", "unknown", "Default", "unknown"),
        ("flow", "celery.chord_unlock", "Own", "celery.chord_unlock"),
        ("flow", "celery.accumulate", "Flow", "celery.accumulate"),
    ],
)
def test_a_tasks_own_storage_comes_before_its_flows_and_the_default(
    flow: str, task: str, storage: str, name: str
) -> None:
    route = router(**FULL).find_route(flow, task)
    assert route is not None
    assert (route.storage.name, route.task_name) == (storage, name)


@pytest.mark.parametrize("task", ["off", "celery.backend_cleanup"])
def test_a_task_that_is_not_stored_has_no_route(task: str) -> None:
    assert router(**FULL).find_route("flow", task) is None
    with pytest.raises(UnknownStorageError, match=task):
        router(**FULL).get_route("flow", task)


def test_without_a_default_there_is_no_route() -> None:
    assert router().find_route("flow", "task") is None
    assert router().used_storages() == []


def test_used_storages_are_those_that_something_is_given() -> None:
    assert [entry.name for entry in router(**FULL).used_storages()] == ["Own", "Flow", "Default"]
    assert [entry.name for entry in router(**{"global": {"default_storage": "Flow"}}).used_storages()] == ["Flow"]


def test_readonly_and_stored_name() -> None:
    route = router(**FULL).get_route("flow", "still")
    assert route.readonly
    assert [router(**FULL).stored_name(name) for name in ("named", "alias", "own", "unknown")] == [
        "alias",
        "alias",
        "own",
        "unknown",
    ]
