"""Commands about whole storages, and those that delete, by the real script."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from flowstore import FlowStore, Key
from flowstore.cli import deleting
from flowstore.record import Query
from flowstore.storage import RecordStorage
from flowstore.testing import record
from tests.cli.helpers import SCRIPT, Place, shown_on
from tests.servers.process import free_port

CANARY = "canary-in-the-mine"

CONFIGURATION = """\
storages:
  - name: Results
    classname: SqlStorage
    configuration: {connection_string: 'sqlite:///{DATA_DIR}/results.db', synchronous: NORMAL}
  - name: Files
    classname: FileStorage
    configuration: {path: '{DATA_DIR}/files', durable: false}
  - name: Routed
    classname: RoutingStorage
    configuration:
      storages: {small: Results, large: Files}
      default: small
      routes: [{storage: large, min_size: 1000}]
  - name: Down
    classname: SqlStorage
    configuration: {connection_string: 'postgresql://me:{SECRET}@127.0.0.1:{PORT}/nothing', timeout: 1}
tasks:
  - name: shop.export
    storage: Files
global:
  default_storage: Results
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "flowstore.yaml").write_text(CONFIGURATION, encoding="utf-8")
    for name, value in (("SECRET", CANARY), ("PORT", str(free_port())), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(name, value)
    return Place(tmp_path)


@pytest.fixture
def store(place: Place) -> FlowStore:
    return FlowStore(place.path / "flowstore.yaml")


@pytest.fixture
def results(store: FlowStore) -> RecordStorage:
    storage = store.storage("Results")
    assert isinstance(storage, RecordStorage)
    for number in range(5):
        storage.put(record(Key("f", "t", str(number)), {"n": number}, run_id="run-one" if number < 2 else None))
    storage.store_blob(Key("f", "t", "0"), "b", b"x" * 100_000)
    return storage


def run(place: Place, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    ended = place.run(*arguments)
    assert ended.returncode == status, ended.stderr
    assert CANARY not in ended.stdout + ended.stderr
    return ended


def rows(place: Place, *arguments: str, status: int = 0) -> Any:
    return json.loads(run(place, *arguments, "-o", "json", status=status).stdout)


def on_terminal(place: Place, *arguments: str, answer: str = "") -> tuple[int, str]:
    """Run the command with a terminal for stdin and stderr; return its status and what it showed there."""
    outer, inner = pty.openpty()
    environment = {**place.environment, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        [str(SCRIPT), *arguments], cwd=place.path, env=environment, stdin=inner, stdout=subprocess.DEVNULL, stderr=inner
    )
    os.close(inner)
    shown = shown_on(outer, answer)
    return process.wait(timeout=60), shown


def test_storages_lists_what_is_declared_and_connects_to_nothing(place: Place) -> None:
    found = {row["storage"]: row for row in rows(place, "storages")}
    assert list(found) == ["Results", "Files", "Routed", "Down"]
    assert found["Results"]["default"]
    assert found["Files"]["tasks"] == ["shop.export"]
    assert found["Routed"]["works_on"] == ["Results", "Files"]
    assert "Batches" in found["Results"]["capabilities"]
    assert run(place, "storages", "-o", "name").stdout.split() == list(found)
    assert "CAPABILITIES" in run(place, "storages").stdout
    assert not (place.path / "results.db").exists()


def test_ping_asks_each_storage(place: Place) -> None:
    ended = run(place, "ping", status=6)
    assert "storage 'Down'" in ended.stderr
    assert [line.split()[1] for line in ended.stdout.splitlines()[1:]] == ["yes", "yes", "yes", "no"]
    assert [row["answers"] for row in rows(place, "ping", "Results", "Routed")] == [True, True]
    run(place, "ping", "Down", status=5)
    run(place, "ping", "Unknown", status=3)


def test_stats_counts_by_kind(place: Place, results: RecordStorage) -> None:
    results.put(record(Key("f", "t", "x"), 1, "own"))
    found = {(row["kind"], row["records"]) for row in rows(place, "stats", "Results")}
    assert {("result", 5), ("blob", 1), (None, 1)} <= found
    sized = {row["kind"]: row for row in rows(place, "stats", "Results", "--sizes")}
    assert sized["own"]["records"] == 1
    assert sized["blob"]["size"] == 100_000
    run(place, "stats", "Down", status=5)
    assert "RECORDS" in run(place, "stats", status=6).stdout


def test_copy_and_verify(place: Place, results: RecordStorage, store: FlowStore) -> None:
    assert run(place, "verify", "Results", "Files", status=1).stdout
    assert rows(place, "copy", "Results", "Files") == [
        {"source": "Results", "target": "Files", "copied": 6, "skipped": 0, "conflicts": 0, "failed": 0}
    ]
    assert rows(place, "copy", "Results", "Files")[0]["skipped"] == 6
    assert rows(place, "verify", "Results", "Files")[0]["same"] == 6
    store.storage("Files").store("f", "t", "1", "other")
    ended = run(place, "verify", "Results", "Files", status=1)
    assert "result 'f' / 't' / '1': the target has a different record" in ended.stderr
    ended = run(place, "copy", "Results", "Files")
    assert "kept" in ended.stderr
    assert rows(place, "copy", "Results", "Files", "--on-conflict", "replace")[0]["conflicts"] == 1
    run(place, "verify", "Results", "Files")
    assert rows(place, "copy", "Results", "Routed", "--kind", "blob")[0]["skipped"] == 1


def test_copy_selects_and_notes_how_far_it_is(place: Place, results: RecordStorage, store: FlowStore) -> None:
    assert rows(place, "copy", "Results", "Files", "--run", "run-one", "--resume", "journal")[0]["copied"] == 2
    assert not (place.path / "journal").exists()
    (place.path / "journal").write_text("x")
    assert "not a resume file" in run(place, "copy", "Results", "Files", "--resume", "journal", status=2).stderr
    run(place, "copy", "Results", "Results", status=2)
    run(place, "copy", "Results", "Unknown", status=3)
    run(place, "copy", "Results", "Down", status=5)


def test_progress_is_shown_on_a_terminal_only(place: Place, results: RecordStorage) -> None:
    status, shown = on_terminal(place, "copy", "Results", "Files")
    assert status == 0
    assert "copying to Files" in shown
    assert run(place, "copy", "Results", "Files").stderr == ""


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz", "all.jsonl.zst"])
def test_export_and_import(place: Place, results: RecordStorage, store: FlowStore, name: str) -> None:
    found = rows(place, "export", "Results", name)
    assert (found[0]["records"], found[0]["blobs"]) == (6, 1)
    assert os.listdir(place.path / ".")
    run(place, "export", "Results", name, status=2)
    run(place, "export", "Results", name, "--force")
    assert rows(place, "import", "Files", name)[0]["copied"] == 6
    assert rows(place, "import", "Files", name)[0]["skipped"] == 6
    run(place, "verify", "Results", "Files")


def test_an_export_that_fails_leaves_no_file(place: Place) -> None:
    before = sorted(os.listdir(place.path))
    run(place, "export", "Down", "all.jsonl", status=5)
    assert sorted(os.listdir(place.path)) == before
    run(place, "import", "Files", "missing.jsonl", status=1)


def test_export_to_stdout_and_import_from_stdin(place: Place, results: RecordStorage) -> None:
    ended = run(place, "export", "Results", "-", "--kind", "result")
    assert len(ended.stdout.splitlines()) == 7
    assert "5 records" in ended.stderr
    imported = subprocess.run(
        [str(SCRIPT), "import", "Files", "-", "-o", "json"],
        cwd=place.path,
        env=place.environment,
        input=ended.stdout,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(imported.stdout)[0]["copied"] == 5


def test_a_damaged_export_is_refused(place: Place, results: RecordStorage) -> None:
    run(place, "export", "Results", "all.jsonl.gz")
    lines = gzip.decompress((place.path / "all.jsonl.gz").read_bytes()).splitlines(keepends=True)
    (place.path / "cut.jsonl").write_bytes(b"".join(lines[:-1]))
    assert "truncated" in run(place, "import", "Files", "cut.jsonl", status=1).stderr


def test_rm_deletes_only_when_it_is_told_to(place: Place, results: RecordStorage) -> None:
    for extra in (["--dry-run"], [], ["--dry-run", "--yes"]):
        ended = run(place, "rm", "f", "t", "0", "3", *extra, status=0 if extra else 2)
        assert "nothing was deleted" in ended.stderr
        assert len(ended.stdout.splitlines()) == 4, "a heading, two results and a blob"
    assert results.count(Query(kinds=("result",))) == 5
    assert "deleted 3 records" in run(place, "rm", "f", "t", "0", "3", "--yes").stderr
    assert results.count(Query()) == 3
    run(place, "rm", "f", "t", "0", status=4)
    for wrong in ([], ["f", "t"], ["f", "t", "1", "--run", "x"]):
        run(place, "rm", *wrong, status=2)


@pytest.mark.parametrize("age", ["30", " 30 ", "1.5", "0"])
def test_cleanup_refuses_an_age_without_a_unit(age: str, place: Place, results: RecordStorage) -> None:
    results.put(record(Key("f", "t", "old"), 1, stored_at=results.now() - 7200))
    assert "has no unit" in run(place, "cleanup", "--older-than", age, "--yes", status=2).stderr
    assert results.count(Query(task_id="old")) == 1


def test_ctrl_c_at_the_question_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> bool:
        raise click.Abort  # what click makes of Ctrl-C, and of the end of the input

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", interrupted)
    with pytest.raises(click.exceptions.Exit) as ended:
        deleting._agreed("Delete?", dry_run=False, yes=False)
    assert ended.value.exit_code == 130
    assert "nothing was deleted" in capsys.readouterr().err


def test_rm_deletes_a_run(place: Place, results: RecordStorage) -> None:
    found = rows(place, "rm", "--run", "run-one", "--dry-run")
    assert {row["id"] for row in found} == {"0", "1"}
    run(place, "rm", "--run", "run-one", "--yes")
    assert {one.key.task_id for one in results.records(Query())} == {"2", "3", "4"}
    run(place, "rm", "--run", "run-one", status=4)


def test_rm_asks_on_a_terminal(place: Place, results: RecordStorage) -> None:
    status, shown = on_terminal(place, "rm", "f", "t", "1", answer="n\n")
    assert "Delete 1 record?" in shown
    assert results.count(Query(task_id="1")) == 1
    assert status == 0
    status, _ = on_terminal(place, "rm", "f", "t", "1", answer="y\n")
    assert status == 0
    assert results.count(Query(task_id="1")) == 0


def test_cleanup_deletes_what_has_expired_and_what_is_old(place: Place, results: RecordStorage) -> None:
    now = results.now()
    results.put(record(Key("f", "t", "expired"), 1, expires_at=now - 1))
    results.put(record(Key("f", "t", "old"), 1, stored_at=now - 7200))
    found = {row["storage"]: row for row in rows(place, "cleanup", "--older-than", "1h", "--dry-run")}
    assert (found["Results"]["expired"], found["Results"]["old"]) == (1, 1)
    assert results.count(Query(task_id="old")) == 1
    assert "pass --yes" in run(place, "cleanup", "--older-than", "1h", status=2).stderr
    assert "deleted 1 record\n" in run(place, "cleanup", "--yes").stderr
    assert results.count(Query(task_id="old")) == 1
    assert "deleted 1 record\n" in run(place, "cleanup", "--older-than", "1h", "--storage", "Results", "--yes").stderr
    assert results.count(Query(task_id="old")) == 0
    assert results.count(Query(kinds=("result",))) == 5
    run(place, "cleanup", "--older-than", "yesterday", status=2)
    run(place, "cleanup", "--storage", "Down", "--yes", status=5)
