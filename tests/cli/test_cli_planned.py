"""A run as it was planned: what never ran has its place in the tree; a storage that is away hides nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flowstore import FlowStore
from flowstore.store.flow_run import FlowRun
from flowstore.store.plan import Chain, Chord, Group, Member, Plan
from tests.cli.helpers import Place
from tests.cli.test_cli_commands import put, put_error

CANVAS = Chain(
    (
        Chord(
            tuple(Chain((Member("shop.parse", f"p{n}"), Member("shop.convert", f"c{n}"))) for n in range(3)),
            Member("shop.sum", "sum"),
        ),
        Member("shop.notify", "mail"),
        Group((Member("shop.export", "x"), Member("shop.export", "y"))),
    )
)


@pytest.fixture
def run(store: FlowStore) -> FlowRun:
    """A run whose first header chain has failed; Celery gives the header's group only to the last task of a chain."""
    run = store._begin_run("bad", "run-1", plan=Plan.of(CANVAS))
    put_error(store, run, "shop.parse", "p0", error="ValueError: no price")
    for n in (1, 2):
        put(store, run, "shop.parse", f"p{n}", n)
        put(store, run, "shop.convert", f"c{n}", n, parents=[["shop.parse", f"p{n}"]], group_id="g", group_index=n)
    put_error(store, run, "shop.sum", "sum", error="ChordError: no price", joins="g")
    put(store, run, "shop.errback", "back", None, parents=[["shop.parse", "p0"]])
    return run


def test_what_never_ran_has_its_place(place: Place, run: FlowRun) -> None:
    lines = place.fine("tree", run.id).splitlines()
    assert "5 SUCCESS, 4 never ran, 2 FAILURE" in lines[1]
    shown = [line.lstrip("│├└─ ").split("  ")[0] for line in lines[2:]]
    assert shown == [
        "group of 3, joined by shop.sum: 5 SUCCESS, 1 FAILURE, 1 never ran",
        "shop.parse",
        "ValueError: no price",
        "shop.errback",
        "→ shop.convert",
        "shop.parse",
        "→ shop.convert",
        "shop.parse",
        "→ shop.convert",
        "→ shop.sum",
        "ChordError: no price",
        "→ shop.notify",
        "group of 2: 2 never ran",
        "shop.export",
        "shop.export",
    ]


def test_what_may_still_run_is_told_from_what_never_will(place: Place, store: FlowStore) -> None:
    run = store._begin_run("bad", "run-2", plan=Plan.of(Group((CANVAS, Member("shop.parse", "slow")))))
    put_error(store, run, "shop.parse", "p0")
    missing = {task["id"]: task["state"] for task in json.loads(place.fine("tree", run.id, "-o", "json"))["missing"]}
    waiting = {name for name, state in missing.items() if state == "not finished"}
    assert waiting == {"p1", "p2", "c1", "c2", "slow"}
    assert {name for name, state in missing.items() if state == "never ran"} == {"c0", "sum", "mail", "x", "y"}


def test_a_run_of_which_nothing_has_ended_shows_its_canvas(place: Place, store: FlowStore) -> None:
    run = store._begin_run("new", "run-3", plan=Plan.of(CANVAS))
    text = place.fine("tree", run.id)
    assert "10 not finished" in text
    assert text.count("shop.parse") == 3


def test_a_task_that_took_another_ones_place_stands_there(place: Place, store: FlowStore) -> None:
    run = store._begin_run("new", "run-4", plan=Plan.of(Chain((Member("shop.parse", "a"), Member("b", "b")))))
    put(store, run, "shop.other", "a", 1)
    lines = place.fine("tree", run.id).splitlines()
    assert "shop.other" in lines[2]
    assert "→ b" in lines[3]
    assert not any("shop.parse" in line for line in lines)


def test_a_storage_that_is_away_hides_nothing_of_the_others(place: Place, store: FlowStore, tmp_path: Path) -> None:
    run = store._begin_run("split", "run-5", plan=Plan.of(Chain((Member("shop.parse", "a"), Member("b", "b")))))
    put(store, run, "shop.parse", "a", 1)
    put(store, run, "shop.export", "e", 1, parents=[["shop.parse", "a"]])
    folder = place.path / "files"
    shutil.rmtree(folder)
    folder.write_text("no folder")
    ended = place.run("tree", run.id)
    assert ended.returncode == 6, ended
    assert "shop.parse" in ended.stdout
    assert "Files" in ended.stderr


def test_ls_looks_at_the_latest_runs_only(place: Place, store: FlowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowstore.cli.ls._LATEST", 5)
    store._begin_run("old", "o")
    for number in range(7):
        store._begin_run("new", str(number))
    (row,) = json.loads(place.fine("ls", "-o", "json"))
    assert (row["flow"], row["runs"], row["last_run"]) == ("new", 5, "6")
    rows = json.loads(place.fine("ls", "--all", "-o", "json"))
    assert {row["flow"]: row["runs"] for row in rows} == {"old": 1, "new": 7}


def test_ls_says_that_there_are_more(place: Place, store: FlowStore) -> None:
    store._begin_run("new", "1")
    assert place.run("ls").stderr == ""
    assert place.run("ls", "nightly", "--all").returncode == 2
