"""Flow name, run id and parents through every shape of canvas, with a real worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group

from flowstore import FlowRun
from tests.celery.sites import Site, until

Build = Callable[[Site], Any]


def si(site: Site, letters: str) -> list[Any]:
    return [site.si(letter) for letter in letters]


def linked(site: Site) -> Any:
    a, b, c, d = si(site, "abcd")
    a.link(b)
    a.link(chain(c, d))
    return a


def with_group_as_link(site: Site) -> Any:
    a, b, c, d = si(site, "abcd")
    a.link(group(b, c))
    a.link(d)
    return a


# Each canvas, and for each task that it runs the names of its parents.
CANVASES: dict[str, tuple[Build, dict[str, str]]] = {
    "one task": (lambda s: s.si("a"), {"a": ""}),
    "chain": (lambda s: chain(*si(s, "abc")), {"a": "", "b": "a", "c": "b"}),
    "group": (lambda s: group(*si(s, "abc")), {"a": "", "b": "", "c": ""}),
    "group of chains": (
        lambda s: group(chain(*si(s, "ab")), chain(*si(s, "cd"))),
        {"a": "", "b": "a", "c": "", "d": "c"},
    ),
    "chord": (lambda s: chord(si(s, "ba"), s.si("c")), {"a": "", "b": "", "c": "ba"}),
    "chord of one": (lambda s: chord(si(s, "a"), s.si("b")), {"a": "", "b": "a"}),
    "chain in a chord's header": (
        lambda s: chord([chain(*si(s, "ab")), s.si("c")], s.si("d")),
        {"a": "", "b": "a", "c": "", "d": "bc"},
    ),
    "group in a chord's header": (
        lambda s: chord([group(*si(s, "ab")), s.si("c")], s.si("d")),
        {"a": "", "b": "", "c": "", "d": "bac"},  # Celery numbers the members of an inner group from behind
    ),
    "chord in a chord's header": (
        lambda s: chord([chord(si(s, "ab"), s.si("c")), s.si("d")], s.si("e")),
        {"a": "", "b": "", "c": "ab", "d": "", "e": "cd"},
    ),
    "chain as a chord's body": (
        lambda s: chord(si(s, "ab"), chain(*si(s, "cd"))),
        {"a": "", "b": "", "c": "ab", "d": "c"},
    ),
    "group as a chord's body": (
        lambda s: chord(si(s, "ab"), group(*si(s, "cd"))),
        {"a": "", "b": "", "c": "ab", "d": "ab"},
    ),
    "chord as a chord's body": (
        lambda s: chord(si(s, "ab"), chord(si(s, "cd"), s.si("e"))),
        {"a": "", "b": "", "c": "ab", "d": "ab", "e": "cd"},
    ),
    "chord in a chain": (
        lambda s: chain(s.si("a"), group(*si(s, "bc")), s.si("d"), s.si("e")),
        {"a": "", "b": "a", "c": "a", "d": "bc", "e": "d"},
    ),
    "two groups in a chain": (
        lambda s: chain(group(*si(s, "ab")), group(*si(s, "cd")), s.si("e")),
        {"a": "", "b": "", "c": "ab", "d": "ab", "e": "cd"},
    ),
    "chain that ends with a group": (
        lambda s: chain(s.si("a"), group(*si(s, "bc"))),
        {"a": "", "b": "a", "c": "a"},
    ),
    "group of one in a chain": (
        lambda s: chain(s.si("a"), group(s.si("b")), s.si("c")),
        {"a": "", "b": "a", "c": "b"},
    ),
    "links": (linked, {"a": "", "b": "a", "c": "a", "d": "c"}),
    "group as a link": (with_group_as_link, {"a": "", "b": "a", "c": "a", "d": "a"}),
    "another queue": (
        lambda s: chain(s.si("a", queue="other"), s.si("b"), s.si("c", queue="other")),
        {"a": "", "b": "a", "c": "b"},
    ),
    "spawned task": (lambda s: s.si("spawn", "task"), {"spawn": "", "a": "spawn"}),
    "spawned chain": (lambda s: s.si("spawn", "chain"), {"spawn": "", "a": "spawn", "b": "a", "c": "b"}),
    "spawned chord": (lambda s: s.si("spawn", "chord"), {"spawn": "", "a": "spawn", "b": "spawn", "c": "ab"}),
    "task spawned in another queue": (lambda s: s.si("spawn", "queue"), {"spawn": "", "a": "spawn"}),
    "task spawned by another app": (
        lambda s: s.si("spawn_by_another_app"),
        {"spawn_by_another_app": "", "a": "spawn_by_another_app"},
    ),
    "replaced by a task": (
        lambda s: chain(s.si("d"), s.si("replace", "task"), s.si("e")),
        {"d": "", "a": "d", "e": "a"},
    ),
    "replaced by a chain": (
        lambda s: chain(s.si("d"), s.si("replace", "chain"), s.si("e")),
        {"d": "", "a": "d", "b": "a", "e": "b"},
    ),
    "replaced by a group": (
        lambda s: chain(s.si("d"), s.si("replace", "group"), s.si("e")),
        {"d": "", "a": "d", "b": "d", "celery.accumulate": "ab", "e": "celery.accumulate"},
    ),
    "replaced by a task in a chord's header": (
        lambda s: chord([s.si("d"), s.si("replace", "task")], s.si("e")),
        {"d": "", "a": "", "e": "da"},
    ),
    "replaced by a chain in a chord's header": (
        lambda s: chord([s.si("d"), s.si("replace", "chain")], s.si("e")),
        {"d": "", "a": "", "b": "a", "e": "db"},
    ),
    "replaced by a chord in a chord's header": (
        lambda s: chord([s.si("d"), s.si("replace", "chord")], s.si("e")),
        {"d": "", "a": "", "b": "", "c": "ab", "e": "dc"},
    ),
    "retried in a chain": (
        lambda s: chain(s.si("a"), s.si("autoretried", 2), s.si("b")),
        {"a": "", "autoretried": "a", "b": "autoretried"},
    ),
    "retried in a chord's header": (
        lambda s: chord([s.si("a"), s.si("autoretried", 1)], s.si("b")),
        {"a": "", "autoretried": "", "b": "a autoretried"},
    ),
    "retried as a chord's body": (
        lambda s: chord(si(s, "ab"), s.si("autoretried", 1)),
        {"a": "", "b": "", "autoretried": "ab"},
    ),
}


def names(text: str) -> list[str]:
    return text.split() if " " in text or len(text) > 4 else list(text)


def graph(run: FlowRun) -> dict[str, list[str]]:
    return {task.name: [parent.task_name for parent in task.parents] for task in run.tasks() if task.state == "SUCCESS"}


@pytest.fixture(scope="module")
def started(any_site: Site) -> dict[str, FlowRun]:
    """All canvases, running at the same time."""
    return {name: any_site.store.start(f"flow of {name}", build(any_site)) for name, (build, _) in CANVASES.items()}


@pytest.mark.parametrize("name", CANVASES)
def test_flow_run_and_parents_are_known_for_every_task_of(
    name: str, any_site: Site, started: dict[str, FlowRun]
) -> None:
    run, expected = started[name], {task: names(parents) for task, parents in CANVASES[name][1].items()}
    with contextlib.suppress(AssertionError):  # what is there then is compared below
        until(lambda: graph(run).keys() >= expected.keys(), f"all tasks of {name}")
    assert graph(run) == expected
    for task in run.tasks():
        assert task.key.flow_name == f"flow of {name}"
        assert task.headers["run_id"] == run.id
        value = any_site.store.retrieve(task.key.flow_name, task.name, task.id)
        if isinstance(value, dict) and "saw" in value:
            assert value["flow"] == f"flow of {name}"
            assert value["run"] == run.id
            letters = {parent for parent in expected[task.name] if len(parent) == 1}
            assert {name: seen for name, seen in value["saw"].items() if name in letters} == {
                letter: [letter] for letter in letters
            }
