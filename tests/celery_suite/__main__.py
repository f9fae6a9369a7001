"""Run Celery's own integration tests with and without flowstore attached, and compare each test's verdict.

The tests come from Celery's source distribution on PyPI, without its package, so that the installed Celery is tested.
Both runs have a private Redis server as broker and result backend. A test whose verdicts differ is run once more on
its own in both ways, since many of these tests depend on time; what differs then as well is printed. The exit code is
the number of such tests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.celery_suite.attached import FOLDER
from tests.celery_suite.plugin import VERDICTS
from tests.servers import redis

CELERY = "5.7.0"
FILES = ("test_canvas.py", "test_tasks.py", "test_group_chains.py", "test_serialization.py")
LONGEST = 60 * 60
"""Seconds that one run of all files may take."""

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_PLACE = _ROOT / ".build" / "celery-suite"

Verdicts = dict[str, str]


def main() -> int:
    """Run the comparison; return how many tests have another verdict with flowstore attached."""
    arguments = argparse.ArgumentParser(prog="celery-suite-attached", description=__doc__)
    arguments.add_argument("tests", nargs="*", default=FILES, help="files of t/integration, or ids of tests in them")
    arguments.add_argument("--repeat", type=int, default=1, help="how often the whole is run both ways")
    chosen = arguments.parse_args()
    python = _environment()
    suite = _suite(python)
    tests = [f"t/integration/{test}" for test in chosen.tests]
    differing: dict[str, tuple[str, str]] = {}
    for _ in range(chosen.repeat):
        differing |= _compared(python, suite, tests)
    for test, (plain, attached) in sorted(differing.items()):
        print(f"{test}: {plain} without flowstore, {attached} with it")
    print(f"different verdicts: {len(differing) or 'none'}")
    return min(len(differing), 100)


def _compared(python: Path, suite: Path, tests: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Run tests in both ways; return the verdicts that differ, also when they are run once more."""
    differing = _differences(_run(python, suite, tests, False), _run(python, suite, tests, True))
    if not differing:
        return {}
    print(f"run once more, since the verdicts differ: {', '.join(differing)}", flush=True)
    again = list(differing)
    return _differences(_run(python, suite, again, False), _run(python, suite, again, True))


def _differences(plain: Verdicts, attached: Verdicts) -> dict[str, tuple[str, str]]:
    return {
        test: (plain.get(test, "not run"), attached.get(test, "not run"))
        for test in sorted({*plain, *attached})
        if plain.get(test) != attached.get(test)
    }


def _run(python: Path, suite: Path, tests: Sequence[str], attached: bool) -> Verdicts:
    """Run tests with a Redis server of their own; print a summary and return their verdicts."""
    with redis.running({"save": '""'}) as server, tempfile.TemporaryDirectory(prefix="celery-suite-") as folder:
        verdicts = Path(folder, "verdicts.json")
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]),
            "PYTHONPATH": str(_ROOT),
            "TEST_BROKER": server.url,
            "TEST_BACKEND": server.url.removesuffix("/0") + "/1",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(server.port),
            VERDICTS: str(verdicts),
        }
        if attached:
            environment[FOLDER] = folder
            environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), str(_HERE / "startup")])
        log = _PLACE / ("attached.log" if attached else "plain.log")
        with log.open("w") as output:
            command = [str(python), "-m", "pytest", "-p", "celery.contrib.pytest", "-p", "tests.celery_suite.plugin"]
            command += ["-p", "no:cacheprovider", "-p", "no:flowstore", "-rA", *tests]
            subprocess.run(command, cwd=suite, env=environment, stdout=output, stderr=output, timeout=LONGEST)
        found: Verdicts = json.loads(verdicts.read_text())
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(Counter(found.values()).items()))
        print(f"Celery {CELERY}, Redis, flowstore {'attached' if attached else 'not attached'}: {told}", end="")
        print(f"; records stored: {_records(folder)}" if attached else "", flush=True)
        return found


def _records(folder: str) -> Mapping[str, int]:
    """Return how many records of each kind were stored: a comparison with nothing stored would prove nothing."""
    with closing(sqlite3.connect(f"file:{folder}/results.db?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT kind, count(*) FROM flowstore_records GROUP BY kind").fetchall())


def _environment() -> Path:
    """Return the interpreter of a virtual environment with this checkout and what the tests need."""
    python = _PLACE / "venv" / "bin" / "python"
    wanted = (_HERE / "requirements.txt").read_text()
    made = _PLACE / "venv" / "requirements.txt"
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(_PLACE / "venv", ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(_PLACE / "venv")], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "--editable", str(_ROOT), "-r", str(_HERE / "requirements.txt")], check=True)
        made.write_text(wanted)
    return python


def _suite(python: Path) -> Path:
    """Return a folder with Celery's tests and their settings, but without Celery."""
    suite = _PLACE / f"celery-{CELERY}-tests"
    if not suite.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
            source = ["--no-deps", "--no-binary", "celery", f"celery=={CELERY}"]
            subprocess.run([*pip, *source, "--dest", folder], check=True)
            (archive,) = Path(folder).glob("celery-*.tar.gz")
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            unpacked = Path(folder, f"celery-{CELERY}")
            shutil.copytree(unpacked / "t", suite.with_suffix(".part") / "t")
            shutil.copy(unpacked / "pyproject.toml", suite.with_suffix(".part"))
            suite.with_suffix(".part").rename(suite)
    return suite


if __name__ == "__main__":
    sys.exit(main())
