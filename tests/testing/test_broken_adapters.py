"""The kit itself is tested: with adapters that are right, and with adapters that have one mistake each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.testing import kit_suites
from tests.testing.caught_by import CAUGHT_BY, WORKS

# All broken adapters run once, for all tests here; many of them are found out by waiting in vain.
pytestmark = pytest.mark.timeout(1800)

HERE = Path(__file__).parent

Outcomes = dict[str, dict[str, set[str]]]
"""What came out of the tests' variants, by class and test."""


def run(folder: Path, *arguments: str, suites: Iterable[str]) -> tuple[Outcomes, str]:
    """Run suites in one process; return what came out of them, and the output."""
    path = os.pathsep.join(filter(None, (str(HERE.parents[1]), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q", "--tb=no"]
    command += [f"--rootdir={folder}", f"--basetemp={folder / 'tmp'}", f"--junitxml={folder / 'outcomes.xml'}"]
    # On CI pytest shows every difference in full, which for large payloads takes it minutes; here many tests fail.
    without_ci = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    done = subprocess.run(
        [*command, *arguments, *(f"{HERE / 'kit_suites.py'}::{suite}" for suite in suites)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**without_ci, "PYTHONPATH": path},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    outcomes: Outcomes = defaultdict(lambda: defaultdict(set))
    for case in ElementTree.parse(folder / "outcomes.xml").iter("testcase"):
        cls, test = case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0]
        told = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes[cls][test] |= told or {"passed"}
    return outcomes, done.stdout


def one_of_each_kind() -> Iterator[Any]:
    """Yield the broken adapters; those after the first one that a test catches wait for ``make test-all``."""
    caught = set()
    for broken, test in CAUGHT_BY.items():
        yield pytest.param(broken, marks=[pytest.mark.release] if test in caught else [])
        caught.add(test)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What came out of all broken adapters that this run is about."""
    tests = [one for one in request.session.items if isinstance(one, pytest.Function)]
    chosen = [str(one.callspec.params["broken"]) for one in tests if one.originalname == test_catches.__name__]
    outcomes, _ = run(tmp_path_factory.mktemp("broken"), "-p", "tests.testing.caught_by", suites=chosen)
    assert outcomes.keys() == set(chosen)
    return outcomes


@pytest.mark.parametrize("broken", list(one_of_each_kind()))
def test_catches(outcomes: Outcomes, broken: str) -> None:
    assert "failure" in outcomes[broken][CAUGHT_BY[broken]]
    assert outcomes[broken][WORKS] == {"passed"}


def test_no_broken_adapter_is_forgotten() -> None:
    assert set(kit_suites.BROKEN) == CAUGHT_BY.keys()
    assert len(CAUGHT_BY) >= 15


@pytest.mark.parametrize(
    ("right", "verdict"), [("TestWire", "fully proven"), ("TestPlain", "all proven that it offers")]
)
def test_passes_what_is_right(tmp_path: Path, right: str, verdict: str) -> None:
    outcomes, output = run(tmp_path, suites=[right])
    assert outcomes.keys() == {right}
    assert {test for test, told in outcomes[right].items() if not told <= {"passed", "skipped"}} == set()
    assert output.partition(f"{right} (")[2].splitlines()[0].endswith(f"): {verdict}")


def test_tells_that_an_adapter_keeps_no_errors(tmp_path: Path) -> None:
    outcomes, output = run(tmp_path, "-k", "error or returns", suites=["TestPlainWithoutErrors"])
    assert outcomes["TestPlainWithoutErrors"]["test_keeps_the_error_beside_the_result"] == {"skipped"}
    assert "  not offered: errors: the adapter does not define store_error\n" in output
