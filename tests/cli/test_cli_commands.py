"""What the commands print, by the real script."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flowstore import FlowRun, FlowStore, Key
from flowstore.encoding.pipeline import encode_error
from flowstore.record import ERROR, RESULT, Ref
from flowstore.storage import RecordStorage
from tests.cli.helpers import SCRIPT, Place, shown_on

EVIL = "red\x1b[31m [bold]x[/bold]\x9b2J\r\n\u202eover :smile: é"


def chained() -> Exception:
    try:
        try:
            raise ConnectionError("the market is closed")
        except ConnectionError as exc:
            raise ValueError(f"no price\x1b]0;owned\x07 {EVIL}") from exc
    except ValueError as exc:
        return exc


def put(store: FlowStore, run: FlowRun, task: str, id: str, result: object, **headers: Any) -> None:
    route = store._router.find_route(run.flow_name, task)
    assert route is not None
    facts = {"state": "SUCCESS", "run_id": run.id, "attempt": 1, "started_at": 1000.0, "finished_at": 1001.5, **headers}
    store._outcomes.store_result(route, Key(run.flow_name, task, id), result, facts)


def put_error(store: FlowStore, run: FlowRun, task: str, id: str, name: str = "", **headers: Any) -> None:
    storage = store.task_storage(run.flow_name, task)
    assert isinstance(storage, RecordStorage)
    facts = {"state": "FAILURE", "run_id": run.id, "attempt": 1, "started_at": 1002.0, "finished_at": 1002.2, **headers}
    storage.put(encode_error(Ref(ERROR, Key(run.flow_name, task, id), name), chained(), facts))


@pytest.fixture
def run(store: FlowStore) -> FlowRun:
    """A run with a chain, a failed task, a retried one, and hostile names."""
    run = store._begin_run("checkout", "6f1d0000-aaaa")
    put(store, run, "shop.price", "one", {"total": 12, "note": "caf\u00e9 \x1b[2J\x9b \u202e"})
    put_error(store, run, "shop.tax", "two", parents=[["shop.price", "one"]], error="ValueError: no price", attempt=2)
    put_error(store, run, "shop.tax", "two", "1", parents=[["shop.price", "one"]], state="RETRY")
    put(store, run, "shop.export", "three", list(range(5)), parents=[["shop.price", "one"]])
    put_error(store, run, EVIL, EVIL, error=EVIL, worker=EVIL)
    put_error(store, run, "odd", "four", state=EVIL, error=EVIL)
    return run


def on_terminal(place: Place, *arguments: str, **extra: str) -> str:
    """Run the command with a terminal for stdout; return what came out of it."""
    outer, inner = pty.openpty()
    environment = {name: value for name, value in place.environment.items() if name not in ("NO_COLOR", "CI")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "100", **extra}
    process = subprocess.Popen(
        [str(SCRIPT), *arguments], cwd=place.path, env=environment, stdin=inner, stdout=inner, stderr=subprocess.PIPE
    )
    os.close(inner)
    printed = shown_on(outer)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    return printed


def commands(run: FlowRun) -> list[list[str]]:
    return [
        ["ls"],
        ["ls", "checkout"],
        ["ls", "--storage", "Results"],
        ["errors"],
        ["errors", "--full"],
        ["tree", run.id],
        ["show", "checkout", "shop.price", "one"],
        ["show", "checkout", "shop.tax", "two"],
        ["show", "checkout", EVIL, EVIL],
        ["cat", "checkout", "shop.price", "one"],
        ["check"],
    ]


def test_nothing_in_the_data_reaches_the_terminal_raw(place: Place, run: FlowRun) -> None:
    for arguments in commands(run):
        if "-o" not in arguments:
            for text in (place.fine(*arguments), on_terminal(place, *arguments, NO_COLOR="1", TERM="dumb")):
                bad = {c for c in text if not c.isprintable()} - set("\n\r\t")
                assert not bad, (arguments, bad)
                assert "\r" not in text.replace("\r\n", "\n")
        for form in ("json", "jsonl", "name"):
            if arguments[0] in ("ls", "errors", "tree"):
                text = place.fine(*arguments, "-o", form)
                assert not {c for c in text if not c.isprintable()} - set("\n\t"), (arguments, form)


def test_on_a_terminal_there_are_colours_and_words_for_states(place: Place, run: FlowRun) -> None:
    text = on_terminal(place, "tree", run.id)
    assert "\x1b[" in text
    assert "FAILURE" in text
    assert "SUCCESS" in text
    # The data's own sequences are shown, not obeyed.
    assert "\\x1b[31m [bold]x[/bold]" in text.replace("\r\n", "")
    assert "\x1b[" not in on_terminal(place, "tree", run.id, NO_COLOR="1").replace("\x1b[1m", "").replace(
        "\x1b[0m", ""
    ).replace("\x1b[2m", "").replace("\x1b[1;3m", "").replace("\x1b[3m", "")


def test_json_is_json(place: Place, run: FlowRun) -> None:
    assert [row["flow"] for row in json.loads(place.fine("ls", "-o", "json"))] == ["checkout"]
    assert [json.loads(line)["run"] for line in place.fine("ls", "checkout", "-o", "jsonl").splitlines()] == [run.id]
    errors = json.loads(place.fine("errors", "-o", "json", "--full"))
    assert {error["type"] for error in errors} == {"builtins.ValueError"}
    assert all("the market is closed" in error["chain"] for error in errors)
    assert {(error["task"], error["id"]) for error in errors} == {("shop.tax", "two"), (EVIL, EVIL), ("odd", "four")}
    tree = json.loads(place.fine("tree", run.id, "-o", "json"))
    assert tree["run"] == run.id
    assert {task["id"]: task["state"] for task in tree["tasks"]} == {
        "one": "SUCCESS",
        "two": "FAILURE",
        "three": "SUCCESS",
        EVIL: "FAILURE",
        "four": EVIL,
    }
    shown = json.loads(place.fine("show", "checkout", "shop.tax", "two", "-o", "json"))
    assert shown["state"] == "FAILURE"
    assert [error["attempt"] for error in shown["errors"]] == [1, 2]
    assert json.loads(place.fine("check", "-o", "json"))[0]["storage"] == "Results"


def test_cat_prints_the_result_and_nothing_else(place: Place, run: FlowRun, store: FlowStore) -> None:
    text = place.fine("cat", "checkout", "shop.price", "one")
    assert json.loads(text) == store.retrieve("checkout", "shop.price", "one")
    assert text.count("\n") == 1
    assert json.loads(place.fine("cat", "checkout", "shop.export", "three")) == [0, 1, 2, 3, 4]
    put(store, run, "shop.price", "typed", (1, {2}))
    assert json.loads(place.fine("cat", "checkout", "shop.price", "typed"))["$type"] == "tuple"


def test_show_leaves_a_large_result_out(place: Place, run: FlowRun, store: FlowStore) -> None:
    put(store, run, "shop.price", "large", "x" * 70_000)
    text = place.fine("show", "checkout", "shop.price", "large")
    assert "too large" in text
    assert "xxx" not in text
    assert "result" not in json.loads(place.fine("show", "checkout", "shop.price", "large", "-o", "json"))
    assert len(place.fine("cat", "checkout", "shop.price", "large")) == 70_003


def test_show_tells_of_earlier_attempts(place: Place, run: FlowRun) -> None:
    text = place.fine("show", "checkout", "shop.tax", "two")
    assert "error, attempt 1  ValueError: no price" in text
    assert "error, attempt 2  ValueError: no price" in text
    assert "parents      shop.price  one" in text


def test_names_lead_from_one_command_to_the_next(place: Place, run: FlowRun) -> None:
    assert place.fine("ls", "-o", "name").split() == ["checkout"]
    assert place.fine("ls", "checkout", "-o", "name").split() == [run.id]
    names = place.fine("tree", run.id, "-o", "name").splitlines()
    assert ["checkout", "shop.price", "one"] in [name.split("\t") for name in names]


def test_listing_goes_on_at_a_cursor(place: Place, store: FlowStore) -> None:
    ids = [store._begin_run("nightly", f"run-{number}").id for number in range(7)]
    found: list[str] = []
    cursor: list[str] = []
    for _ in range(10):
        ended = place.run("ls", "nightly", "--limit", "3", "-o", "name", *cursor)
        found += ended.stdout.split()
        if "--cursor" not in ended.stderr:
            break
        cursor = ["--cursor", ended.stderr.partition("--cursor '")[2].partition("'")[0]]
    assert found == ids[::-1]


def test_errors_of_several_storages_go_on_at_a_cursor(place: Place, store: FlowStore) -> None:
    run = store._begin_run("nightly", "run-1")
    for number in range(5):
        put_error(store, run, "shop.price", f"price-{number}")
        put_error(store, run, "shop.export", f"export-{number}")
    found: list[str] = []
    cursor: list[str] = []
    for _ in range(10):
        ended = place.run("errors", "--limit", "4", "-o", "jsonl", *cursor)
        found += [json.loads(line)["id"] for line in ended.stdout.splitlines()]
        if "--cursor" not in ended.stderr:
            break
        cursor = ["--cursor", ended.stderr.partition("--cursor '")[2].partition("'")[0]]
    assert sorted(found) == sorted(f"{name}-{number}" for name in ("price", "export") for number in range(5))
    assert found[:5] == [f"price-{number}" for number in (4, 3, 2, 1, 0)]


def test_errors_can_be_narrowed(place: Place, run: FlowRun, store: FlowStore) -> None:
    other = store._begin_run("other", "77770000-bbbb")
    put_error(store, other, "shop.tax", "elsewhere")
    ids = {json.loads(line)["id"] for line in place.fine("errors", "checkout", "-o", "jsonl").splitlines()}
    assert ids == {"two", EVIL, "four"}
    assert json.loads(place.fine("errors", "--run", "7777", "-o", "json"))[0]["id"] == "elsewhere"
    assert len(json.loads(place.fine("errors", "--task", "shop.tax", "-o", "json"))) == 3
    assert place.fine("errors", "nothing") == ""


def test_a_run_may_be_abbreviated_where_that_is_clear(place: Place, run: FlowRun, store: FlowStore) -> None:
    assert run.id in place.fine("tree", "6f1d")
    store._begin_run("checkout", "6f1d0000-cccc")
    ended = place.run("tree", "6f1d")
    assert ended.returncode == 4
    assert "2 runs have ids that begin with '6f1d': 6f1d0000-aaaa, 6f1d0000-cccc" in ended.stderr
    assert place.run("tree", "6f").returncode == 4


def test_records_of_a_storage_can_be_listed(place: Place, run: FlowRun) -> None:
    kinds = {json.loads(line)["kind"] for line in place.fine("ls", "--storage", "Results", "-o", "jsonl").splitlines()}
    assert kinds == {"result", "error", "run"}
    only = place.fine("ls", "checkout", "--storage", "Files", "--kind", RESULT, "--task", "shop.export", "-o", "name")
    assert only == "checkout\tshop.export\tthree\n"


def test_a_reader_may_stop_early(place: Place, store: FlowStore) -> None:
    run = store._begin_run("nightly", "run-1")
    for number in range(300):
        put(store, run, "shop.price", f"{number:0500}", number)
    for command in ("ls --storage Results --limit 300", "tree run-1 -o jsonl", "tree run-1 --all"):
        ended = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {SCRIPT} {command} | head -1"],
            cwd=place.path,
            env=place.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended
        assert len(ended.stdout.splitlines()) == 1
        assert "roken" not in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_large_group_is_abbreviated_failures_first(place: Place, store: FlowStore) -> None:
    run = store._begin_run("wide", "run-1")
    for number in range(150):
        put(store, run, "shop.price", f"ok-{number}", number, group_id="g", group_index=number)
    put_error(store, run, "shop.price", "bad", group_id="g", group_index=150, error="ValueError: no price")
    text = place.fine("tree", "run-1")
    assert "group of 151: 150 SUCCESS, 1 FAILURE" in text
    assert text.index(" bad") < text.index(" ok-")
    assert "… 145 more: 145 SUCCESS" in text
    assert len(text.splitlines()) < 15
    assert len(place.fine("tree", "run-1", "--all").splitlines()) > 150


def test_set_overrides_the_configuration(place: Place, run: FlowRun, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    assert place.fine("--set", f"storages.Results.connection_string=sqlite:///{other}", "ls") == ""
    assert other.exists()


def test_configuration_is_found_by_option_variable_and_folder(place: Place, run: FlowRun, tmp_path: Path) -> None:
    empty = Place(tmp_path / "elsewhere")
    empty.path.mkdir()
    path = str(place.path / "flowstore.yaml")
    for arguments, extra in ((["-c", path], {}), ([], {"FLOWSTORE_CONFIG": path})):
        ended = empty.run(*arguments, "ls", "-o", "name", DATA_DIR=str(place.path), **extra)
        assert ended.stdout == "checkout\n", ended.stderr
    ended = empty.run("ls")
    assert ended.returncode == 3
    assert "flowstore init" in ended.stderr


def test_ls_selects_records_by_id_and_value(place: Place, store: FlowStore) -> None:
    for number in range(6):
        store.store("checkout", "price", f"id-{5 - number}", {"number": number, "in": {"even": number % 2 == 0}})
    store.store("checkout", "price", "other", {"number": "3"})

    def ids(*arguments: str) -> list[str]:
        printed = place.fine("ls", "--storage", "Results", *arguments, "-o", "name")
        return [line.rpartition("\t")[2] for line in printed.splitlines()]

    assert ids("--pattern", "id-?", "--order", "task_id") == [f"id-{number}" for number in range(6)]
    assert ids("--pattern", "id-?", "--skip", "4") == ["id-4", "id-5"]
    assert ids("--where", "in.even=true") == ["id-1", "id-3", "id-5"]
    assert ids("--where", "number=3") == ["id-2"]
    assert ids("--where", 'number="3"') == ["other"]
    assert ids("--where", "in.even=true", "--where", "number=4") == ["id-1"]
    assert ids("--where", "number=three") == []
    for arguments, message in (
        (("ls", "--pattern", "*"), "need --storage"),
        (("ls", "--storage", "Results", "--where", "number"), "is not of the form FIELD=VALUE"),
        (("ls", "--storage", "Results", "--where", "number=[1]"), "not list"),
        (("ls", "--storage", "Results", "--where", "a..b=1"), "is not a path"),
    ):
        ended = place.run(*arguments)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert message in ended.stderr
