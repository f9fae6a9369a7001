"""Flow runs as a client sees them: results, tasks, and finding them again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group

from flowstore import NotFoundError, RemoteTaskError, UnknownStorageError, UnsupportedError
from tests.celery.conftest import MakeSite
from tests.celery.sites import PATIENCE, ROOT, Site, until

RESULTS: dict[str, tuple[Callable[[Site], Any], Any]] = {
    "one task": (lambda s: s.sig("echo", 1), 1),
    "None": (lambda s: s.sig("echo", None), None),
    "chain": (lambda s: chain(s.sig("echo", 1), s.sig("plain"), s.sig("plain")), 4),
    "group": (lambda s: group(s.sig("plain", n) for n in range(4)), [0, 2, 4, 6]),
    "group of one": (lambda s: group(s.sig("plain", 1)), [2]),
    "group of groups": (
        lambda s: group(group(s.sig("plain", 1), s.sig("plain", 2)), s.sig("plain", 3)),
        [2, 4, 6],
    ),  # Celery flattens it
    "group of chains": (lambda s: group(chain(s.sig("echo", n), s.sig("plain")) for n in range(2)), [0, 2]),
    "chord": (lambda s: chord([s.sig("plain", n) for n in range(3)], s.sig("echo")), [0, 2, 4]),
    "chord with a chain as body": (
        lambda s: chord([s.sig("plain", n) for n in range(2)], chain(s.sig("echo"), s.sig("echo"))),
        [0, 2],
    ),
    "group of chords": (
        lambda s: group(chord([s.sig("plain", n), s.sig("plain", n)], s.sig("echo")) for n in range(2)),
        [[0, 0], [2, 2]],
    ),
    "chain that ends with a group": (lambda s: chain(s.sig("echo", 1), group(s.sig("plain"), s.sig("echo"))), [2, 1]),
    "chain with a group inside": (
        lambda s: chain(s.sig("echo", 1), group(s.sig("plain"), s.sig("echo")), s.sig("echo")),
        [2, 1],
    ),
    "chain with a group of one at its end": (lambda s: chain(s.sig("echo", 1), group(s.sig("plain"))), None),
    "replaced task": (lambda s: chain(s.si("replace", "task"), s.sig("echo", 5)), None),
}


@pytest.mark.parametrize("name", RESULTS)
def test_get_returns_the_result_of_a(name: str, site: Site) -> None:
    build, expected = RESULTS[name]
    canvas = build(site)
    result = site.store.start("results", canvas).get(timeout=PATIENCE)
    if name == "chain with a group of one at its end":
        assert result in (2, [2])  # Celery may make one task of it
    elif name == "replaced task":
        assert result["is"] == "a"
    else:
        assert result == expected


def test_get_of_a_replaced_task(site: Site) -> None:
    assert site.start("replaced", "replace", "chain").get(timeout=PATIENCE)["is"] == "b"


def test_get_shows_the_whole_chain_of_a_failing_tasks_error(site: Site) -> None:
    run = site.store.start("failing", chain(site.sig("echo", "deep trouble"), site.sig("fail"), site.sig("echo")))
    with pytest.raises(RemoteTaskError) as caught:
        run.get(timeout=PATIENCE)
    assert caught.value.key.task_name == "fail"
    assert caught.value.failure.cause is not None
    assert caught.value.failure.cause.type_name == "KeyError"
    for text in ("KeyError: 'missing'", "direct cause", "ValueError: deep trouble"):
        assert text in str(caught.value)


def test_get_ends_when_one_of_a_group_has_failed(site: Site) -> None:
    run = site.store.start("failing", group(site.sig("echo", 1), site.sig("fail")))
    with pytest.raises(RemoteTaskError, match="no luck"):
        run.get(timeout=PATIENCE)


def test_get_does_not_end_with_an_attempt_that_is_retried(site: Site) -> None:
    assert site.start("retried", "autoretried", 3).get(timeout=PATIENCE)["attempt"] == 4


def test_get_times_out_and_the_run_goes_on(make_site: MakeSite) -> None:
    site = make_site()
    run = site.start("late", "echo", 1)
    with pytest.raises(TimeoutError):
        run.get(timeout=0.05)
    site.start_worker("solo", 1)
    assert run.get(timeout=PATIENCE) == 1


def test_get_refuses_a_last_task_without_a_storage(site: Site) -> None:
    run = site.start("unstored", "unstored", 1)
    with pytest.raises(UnsupportedError, match="'unstored' has no storage"):
        run.get(timeout=PATIENCE)


def test_get_refuses_a_run_that_was_not_started(site: Site) -> None:
    result = site.sig("echo", 1).apply_async()
    site.result_of("echo", "echo", result.id)
    with pytest.raises(UnsupportedError, match=r"FlowStore\.start"):
        site.store.run(result.id).get(timeout=PATIENCE)


def test_tasks_tells_what_ran(site: Site) -> None:
    run = site.store.start("what ran", chain(site.sig("echo", "x" * 98), site.sig("aliased"), site.si("fail")))
    assert isinstance(site.end_of(run), RemoteTaskError)
    echo, aliased, fail = run.tasks()
    assert [task.name for task in (echo, aliased, fail)] == ["echo", "nickname", "fail"]
    assert [task.state for task in (echo, aliased, fail)] == ["SUCCESS", "SUCCESS", "FAILURE"]
    assert {task.storage for task in run.tasks()} == {"Main"}
    assert (echo.size, echo.attempt, echo.error) == (100, 1, None)
    assert (echo.parents, aliased.parents, fail.parents) == ((), (echo.key,), (aliased.key,))
    assert fail.error == "ValueError: no luck"
    assert echo.headers["root_id"] == fail.headers["root_id"] == echo.id


def test_tasks_finds_all_storages(site: Site) -> None:
    run = site.store.start("several storages", chain(site.sig("echo", 1), site.sig("store_on_log"), site.sig("gated")))
    assert site.end_of(run) == 1
    assert [task.storage for task in run.tasks()] == ["Main", "Log", "GatedStorage"]


def test_runs_lists_the_latest_first(site: Site) -> None:
    started = [site.start("listed", "echo", number).id for number in range(5)]
    assert [run.id for run in site.store.runs("listed")] == started[::-1]
    assert [run.id for run in site.store.runs("listed", limit=2)] == started[:2:-1]
    assert site.store.runs("never started") == []


def test_a_run_that_nobody_knows(site: Site) -> None:
    with pytest.raises(NotFoundError, match="no-such-run"):
        site.store.run("no-such-run")


def test_another_process_finds_the_run(site: Site) -> None:
    run = site.store.start("elsewhere", chain(site.sig("echo", 20), site.sig("plain")))
    program = (
        "import json, sys; from flowstore import FlowStore\n"
        "store = FlowStore(json.load(open(sys.argv[1]))['configuration'])\n"
        f"run = store.run({run.id!r}); print(json.dumps([run.flow_name, run.get(timeout=60), len(run.tasks())]))\n"
        "assert 'celery' not in sys.modules"
    )
    command = [sys.executable, "-c", program, str(site.folder / "settings.json")]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == ["elsewhere", 40, 2]


def test_a_task_starts_a_flow_and_finds_its_result(site: Site) -> None:
    run = site.start("outer", "begin", "inner")
    seen = site.end_of(run)
    assert seen["result"] == 42
    child = site.store.run(seen["child"])
    assert (child.flow_name, child.parent_run_id) == ("inner", run.id)
    assert [task.name for task in run.tasks()] == ["begin"]
    assert [task.name for task in child.tasks()] == ["plain"]


def test_a_chord_that_was_not_started_finds_its_parents_by_name(any_site: Site) -> None:
    site = any_site
    result = chord([site.si("b"), site.si("a"), site.si("b")], site.si("c")).apply_async()
    seen = site.result_of("c", "c", result.id)
    # Each task is a flow of its own name, and all are in the run of the group.
    run = site.store.run(seen["run"])
    until(lambda: len(run.tasks()) == 4)
    assert {task.key.flow_name for task in run.tasks()} == {"a", "b", "c"}
    assert seen["saw"] == {"b": ["b", "b"], "a": ["a"]}


def test_a_chord_in_a_chain_that_was_not_started(any_site: Site) -> None:
    site = any_site
    result = chain(site.si("a"), group(site.si("b"), site.si("c")), site.si("d")).apply_async()
    until(lambda: site.store.retrieve("a", "d", result.id, default=None), "the body's result in the first task's flow")
    seen = site.store.retrieve("a", "d", result.id)
    assert seen["saw"] == {"b": ["b"], "c": ["c"]}


def test_start_takes_a_task_for_its_signature_and_options(site: Site) -> None:
    run = site.store.start("options", site.app.tasks["look"], task_id="chosen", queue="other", countdown=0)
    assert site.end_of(run)["task"] == "look"
    assert [task.id for task in run.tasks()] == ["chosen"]


def test_the_same_canvas_may_be_started_twice(site: Site) -> None:
    canvas = chain(site.sig("echo", 1), site.sig("plain"))
    runs = [site.store.start("twice", canvas) for _ in range(2)]
    assert [site.end_of(run) for run in runs] == [2, 2]
    assert [len(run.tasks()) for run in runs] == [2, 2]


def test_start_refuses_a_flow_without_a_storage(make_site: MakeSite) -> None:
    site = make_site(configuration=lambda _: {"global": {}, "flows": []})
    with pytest.raises(UnknownStorageError, match="'homeless' has no storage"):
        site.start("homeless", "echo", 1)
    assert list((site.folder / "broker").iterdir()) == []
