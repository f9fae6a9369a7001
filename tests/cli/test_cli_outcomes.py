"""Exit codes, and errors as one line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flowstore import FlowStore, Key
from flowstore.record import ERROR
from flowstore.storage import RecordStorage
from tests.cli.helpers import SCRIPT, Place

PLAIN = """
from flowstore import DataStorage

class Plain(DataStorage):
    def __init__(self):
        self.values = {("checkout", "shop.price", "one"): [1]}
    def connect(self):
        pass
    def disconnect(self):
        pass
    def is_connected(self):
        return True
    def retrieve(self, flow_name, task_name, task_id):
        return self.values[flow_name, task_name, task_id]
    def store(self, flow_name, task_name, task_id, result):
        self.values[flow_name, task_name, task_id] = result

class Broken(Plain):
    def retrieve(self, flow_name, task_name, task_id):
        raise RuntimeError("a bug\\x1b[31m of its own\\nwith two lines")
"""


def one_line(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the error, which has to be all there is on stderr."""
    line, end, rest = ended.stderr.partition("\n")
    assert (end, rest) == ("\n", ""), ended.stderr
    assert line.startswith("error: ")
    assert ended.stdout == ""
    return line


@pytest.fixture
def plain(tmp_path: Path) -> Place:
    (tmp_path / "own.py").write_text(PLAIN, encoding="utf-8")
    (tmp_path / "flowstore.yaml").write_text(
        "storages:\n"
        "  - {name: Own, classname: Plain, import: own}\n"
        "  - {name: Bad, classname: Broken, import: own}\n"
        "tasks: [{name: bad.task, storage: Bad}]\n"
        "global: {default_storage: Own}\n",
        encoding="utf-8",
    )
    return Place(tmp_path)


def test_an_adapter_of_ones_own_in_the_current_folder(plain: Place) -> None:
    assert plain.fine("cat", "checkout", "shop.price", "one") == "[1]\n"
    assert '"result": [\n    1\n  ]' in plain.fine("show", "checkout", "shop.price", "one", "-o", "json")


def test_1_for_what_an_adapter_cannot_do(plain: Place) -> None:
    ended = plain.run("ls", "--storage", "Own")
    assert ended.returncode == 1
    assert "need a RecordStorage" in one_line(ended)


def test_1_for_a_bug_without_a_traceback_unless_debugging(plain: Place) -> None:
    ended = plain.run("cat", "f", "bad.task", "one")
    assert ended.returncode == 1
    assert "RuntimeError: a bug\\x1b[31m of its own with two lines" in one_line(ended)
    ended = plain.run("--debug", "cat", "f", "bad.task", "one")
    assert ended.returncode == 1
    assert "Traceback (most recent call last)" in ended.stderr
    assert "own.py" in ended.stderr
    assert "\x1b" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["ls", "--no-such-option"],
        ["ls", "-o", "xml"],
        ["ls", "--limit", "0"],
        ["ls", "--kind", "result"],
        ["--set", "storages.Results", "ls"],
        ["show", "only-a-flow"],
        ["cat", "checkout", "shop.price", "\udcff"],
    ],
)
def test_2_for_usage(place: Place, arguments: list[str]) -> None:
    ended = place.run(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


def test_3_for_a_wrong_configuration_with_all_mistakes(place: Place) -> None:
    wrong = place.path / "wrong.yaml"
    wrong.write_text(
        "storages:\n  - name: A\n    clasname: SqlStorage\n  - name: B\n    classname: NoStorage\n"
        "tasks:\n  - name: t\n    storage: C\n",
        encoding="utf-8",
    )
    for command in (["check"], ["ls"]):
        ended = place.run("-c", "wrong.yaml", *command)
        assert ended.returncode == 3
        assert ended.stdout == ""
        for told in ("wrong.yaml:3:5: ", "Did you mean 'classname'?", "wrong.yaml:5:", "wrong.yaml:8:", "    ^"):
            assert told in ended.stderr, told
    assert "can't read the file" in place.run("-c", "none.yaml", "check").stderr
    assert place.run("-c", "none.yaml", "check").returncode == 3
    assert place.run("ls", "--storage", "None").returncode == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "checkout", "shop.price", "none"],
        ["cat", "checkout", "shop.price", "none"],
        ["tree", "no-such-run"],
        ["errors", "--run", "no-such-run"],
        ["errors", "--cursor", "Nowhere:1"],
    ],
)
def test_4_for_what_is_not_there(place: Place, arguments: list[str]) -> None:
    ended = place.run(*arguments)
    assert ended.returncode == 4
    one_line(ended)


def test_4_tells_of_the_error_where_a_result_is_missing(place: Place, store: FlowStore) -> None:
    store.store_error(None, "checkout", "shop.price", "one", ValueError("no price"))
    ended = place.run("cat", "checkout", "shop.price", "one")
    assert ended.returncode == 4
    assert "the task failed with ValueError: no price" in one_line(ended)


def test_5_for_a_storage_that_cannot_be_reached(place: Place) -> None:
    ended = place.run("ls", DATA_DIR=str(place.path / "gone"))
    assert ended.returncode == 5
    assert "Results" in one_line(ended)
    ended = place.run("check", "--connect", DATA_DIR=str(place.path / "gone"))
    assert ended.returncode == 5
    assert place.run("check", DATA_DIR=str(place.path / "gone")).returncode == 0


def test_6_where_one_storage_of_several_fails(place: Place, store: FlowStore) -> None:
    store.store_error(None, "checkout", "shop.export", "one", ValueError("no paper"))
    arguments = ["--set", f"storages.Results.connection_string=sqlite:///{place.path}/gone/x.db"]
    ended = place.run(*arguments, "errors", "-o", "name")
    assert ended.returncode == 6
    assert ended.stdout == "checkout\tshop.export\tone\n"
    assert ended.stderr.startswith("error: ")
    ended = place.run(*arguments, "check", "--connect", "-o", "json")
    assert ended.returncode == 6
    assert '"connected": true' in ended.stdout
    assert '"connected": false' in ended.stdout


def test_6_where_one_error_is_damaged(place: Place, store: FlowStore) -> None:
    for id in ("one", "two"):
        store.store_error(None, "checkout", "shop.price", id, ValueError(f"no price for {id}"))
    storage = store.task_storage("checkout", "shop.price")
    assert isinstance(storage, RecordStorage)
    storage.put(replace(storage.get(Key("checkout", "shop.price", "one"), ERROR), payload=b"[]"))
    ended = place.run("errors")
    assert ended.returncode == 6
    assert "no price for two" in ended.stdout
    assert "damaged" in ended.stdout
    assert "'one'" in ended.stderr


def test_warnings_never_show_the_secret(place: Place) -> None:
    (place.path / "own.py").write_text(PLAIN.replace("def __init__(self)", "def __init__(self, password='')"))
    (place.path / "secret.yaml").write_text(
        "storages:\n  - {name: Own, classname: Plain, import: own, configuration: {password: canary-4711}}\n"
        "global: {default_storage: Own}\n"
    )
    ended = place.run("-c", "secret.yaml", "check")
    assert ended.returncode == 0
    assert "warning: " in ended.stderr
    for command in (["check"], ["check", "--connect"], ["ls"], ["--debug", "ls", "--storage", "Own"]):
        ended = place.run("-c", "secret.yaml", *command)
        assert "canary" not in ended.stdout + ended.stderr


def test_130_when_interrupted(place: Place) -> None:
    """The configuration is a pipe that nobody writes to: the command waits there for the interrupt."""
    pipe = place.path / "pipe.yaml"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [str(SCRIPT), "-c", str(pipe), "ls"], cwd=place.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pipe.open("wb"):  # returns when the command has opened the other end
        process.send_signal(2)
        printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed, told) == (130, "", "interrupted\n")


def test_what_lists_nothing_says_why(place: Place, store: FlowStore) -> None:
    store._begin_run("checkout", "1")
    assert "no run of flow 'nosuchflow' is stored" in place.run("ls", "nosuchflow").stderr
    assert "Did you mean 'result'?" in place.run("ls", "--storage", "Results", "--kind", "results").stderr
    assert place.run("ls", "--storage", "Results", "--kind", "error").stderr == ""


def test_the_package_can_be_executed(place: Place) -> None:
    command = [sys.executable, "-m", "flowstore", "ls", "-o", "json"]
    ended = subprocess.run(command, cwd=place.path, env=place.environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_a_missing_file_is_named_whole(place: Place) -> None:
    ended = place.run("-c", "nowhere.yaml", "ls")
    assert ended.returncode == 3
    assert f"{place.path}/nowhere.yaml" in ended.stderr
