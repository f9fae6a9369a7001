"""The demo, with its real worker, and everything that it tells people to type."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.helpers import SCRIPT, is_running, until

FILES = 8


def demo(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), "demo", *arguments],
        env={**os.environ, **extra},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a long demo; give it, and the id of its worker, once that is at work."""
    process = subprocess.Popen(
        [str(SCRIPT), "demo", "--keep", str(folder), "--files", "5000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    pid_file = folder / "worker.pid"
    until(lambda: pid_file.exists() or process.poll() is not None, "the worker is ready")
    worker = int(pid_file.read_text())
    try:
        yield process, worker
    finally:
        process.kill()
        process.wait()
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo") / "with 'quote' and {BRACES} $HOME"
    ended = demo("--keep", str(folder), "--files", str(FILES))
    assert ended.returncode == 0, ended.stderr
    return folder, ended


def commands(text: str) -> list[str]:
    lines = text.partition("Next steps\n")[2].splitlines()
    return [line.strip() for line in lines if line.startswith("  ")]


def test_shows_the_tree_an_error_and_the_summary(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = shown
    text = ended.stdout
    assert f"group of {FILES}, joined by survey.summarize: {FILES} SUCCESS" in text
    assert "FAILURE" in text
    assert "→ survey.publish  SUCCESS  attempt 2" in text
    assert "SyntaxError: '(' was never closed" in text
    assert "The above exception was the direct cause" in text
    assert f"{FILES} modules: " in text
    assert "most imported: " in text
    assert "\x1b" not in text + ended.stderr
    assert (folder / "report.md").read_text().startswith(f"# {FILES} modules")


def test_reports_progress_on_stderr(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, ended = shown
    finished = [line for line in ended.stderr.splitlines() if "tasks finished" in line]
    total = int(finished[-1].split()[2])
    assert total > FILES
    assert finished[-1].startswith(f"{total} of {total} ")


def test_leaves_what_was_stored_and_no_broker(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = shown
    expected = {"flowstore.yaml", "report.md", "results.db", "summaries", "unfinished.py", "worker.log"}
    assert {path.name for path in folder.iterdir()} - {"results.db-wal", "results.db-shm"} == expected


def test_every_printed_command_works(shown: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    printed = commands(shown[1].stdout)
    assert len(printed) == 6
    for command in printed:
        ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, (command, ended.stderr)
        assert ended.stdout.strip(), command
        if " cat " in command:
            assert json.loads(ended.stdout)["modules"] == FILES


def test_the_printed_way_to_remove_it_works(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    ended = demo("--keep", str(folder), "--files", "1")
    line = ended.stdout.splitlines()[-1]
    assert line.startswith("Remove everything: rm -r ")
    subprocess.run(line.partition(": ")[2], shell=True, check=True)
    assert not folder.exists()


def test_surveys_a_folder_of_ones_own(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    (sources / "shop").mkdir(parents=True)
    (sources / "shop" / "__init__.py").write_text('"""A shop."""\nimport json\n')
    (sources / "shop" / "price.py").write_text("def price():\n    return 1\n")
    (sources / "wrong.py").write_bytes(b"def (\x00")
    ended = demo("--keep", str(tmp_path / "demo"), "--path", str(sources))
    assert ended.returncode == 0, ended.stderr
    assert "2 modules: 4 lines, 1 functions, 0 classes" in ended.stdout
    assert "wrong is not valid Python" in ended.stdout


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    ended = demo("--keep", str(tmp_path))
    assert ended.returncode == 2
    assert "is not empty" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_without_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = demo("--keep", str(tmp_path / "demo"), "--path", str(tmp_path / "empty"))
    assert ended.returncode == 2
    assert "no Python files" in ended.stderr


def test_a_worker_that_does_not_start_is_reported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'worker' in sys.orig_argv:\n    os.write(2, b'no worker today\\n')\n    os._exit(7)\n"
    )
    ended = demo("--keep", str(tmp_path / "demo"), "--files", "1", PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    assert "error: the worker ended with status 7" in ended.stderr
    assert "no worker today" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_an_interrupt_ends_the_worker_too(tmp_path: Path) -> None:
    with started(tmp_path / "demo") as (process, worker):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=180)
        assert process.returncode == 130
        assert told.decode().splitlines()[-1] == "interrupted"
        assert not is_running(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_worker_ends_when_the_demo_is_killed(tmp_path: Path) -> None:
    with started(tmp_path / "demo") as (process, worker):
        process.kill()
        process.communicate()
        until(lambda: not is_running(worker), "the worker has ended")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_worker_that_dies_is_reported(tmp_path: Path) -> None:
    with started(tmp_path / "demo") as (process, worker):
        orphans = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        os.kill(worker, signal.SIGKILL)
        _, told = process.communicate(timeout=180)
        # Mostly they notice by themselves; one that waits for a lock which the worker held does not.
        for orphan in map(int, orphans):
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        assert process.returncode == 1
        assert "the worker ended with status -9" in told.decode()
