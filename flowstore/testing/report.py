"""The report of what each adapter proved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from flowstore.testing import rules

REPETITION: Final = "flowstore_time"
"""The parameter with the number of a test's repetition."""

_PROPERTY: Final = "flowstore"


@dataclass
class _Suite:
    """A test class: its aspects with their tests, and the outcomes."""

    aspects: dict[str, set[str]]
    outcomes: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    times: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    """The repetitions that were run, of repeated tests."""

    def add(self, aspect: str, test: str, outcome: str, time: int | None) -> None:
        self.outcomes.setdefault(aspect, {}).setdefault(test, set()).add(outcome)
        if time is not None:
            self.times.setdefault(aspect, {}).setdefault(test, set()).add(time)

    def repeated(self, aspect: str) -> int:
        """Return how often each test of an aspect was run, at least."""
        return min(map(len, self.times[aspect].values()))


class Report:
    """Collects outcomes, and reports no more than they prove."""

    def __init__(self) -> None:
        self._suites: dict[str, _Suite] = {}

    def expect(self, item: pytest.Function, aspect: str) -> None:
        """Add a collected test."""
        cls: Any = item.cls
        suite = f"{cls.__name__} ({_adapter(cls)})"
        aspects: dict[str, list[str]] = {}
        for test, of in rules.aspects_of(cls).items():
            aspects.setdefault(of, []).append(test)
        # Sent with each test's report, so that it also arrives from other processes (pytest-xdist).
        time = item.callspec.params.get(REPETITION) if hasattr(item, "callspec") else None
        item.user_properties.append((_PROPERTY, [suite, aspect, item.originalname, aspects, time]))
        self._suite(suite, aspects)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the outcome of a test."""
        about: Any = next((value for name, value in report.user_properties if name == _PROPERTY), None)
        if about is None or (report.when != "call" and report.passed):
            return
        suite, aspect, test, aspects, time = about
        was_run = report.when == "call" and not report.skipped
        self._suite(suite, aspects).add(aspect, test, _outcome(report), time if was_run else None)

    def _suite(self, name: str, aspects: dict[str, list[str]]) -> _Suite:
        return self._suites.setdefault(name, _Suite({of: set(tests) for of, tests in aspects.items()}))

    def lines(self) -> list[str]:
        """Return the lines of the report; empty if no adapter was tested."""
        return [line for name, suite in sorted(self._suites.items()) for line in _lines_of(name, suite)]


def _adapter(cls: Any) -> str:
    adapter = getattr(cls, "storage_class", None)
    return f"{adapter.__module__}.{adapter.__qualname__}" if isinstance(adapter, type) else "by fixture"


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"waived: {report.wasxfail.removeprefix('reason: ')}" if report.skipped else "failed"
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        return reason if reason.startswith(rules.LACKS) else f"skipped: {reason.removeprefix('not proven: ')}"
    return "passed" if report.passed else "failed"


def _lines_of(name: str, suite: _Suite) -> Iterator[str]:
    if not suite.outcomes:
        yield f"{name}: nothing proven, because no test was run"
        return
    proven: list[str] = []
    lacking: list[str] = []
    rest: list[str] = []
    unrun = [aspect for aspect in suite.aspects if aspect not in suite.outcomes]
    for aspect, tests in suite.aspects.items():
        outcomes = suite.outcomes.get(aspect, {})
        passed = sum(results == {"passed"} for results in outcomes.values())
        missing = sorted(set().union(*outcomes.values()) - {"passed"})
        if outcomes.keys() != tests or not _is_lack(missing):
            rest += _unproven(aspect, tests, outcomes) if outcomes else ()
            continue
        if passed:
            proven.append(f"{aspect} ({passed})")
        part = f" ({len(tests) - passed} of {len(tests)} tests)" if passed else ""
        lacking += [f"  not offered: {aspect}{part}: {reason.removeprefix(rules.LACKS)}" for reason in missing]
    passed_alone = sum(results == {"passed"} for of in suite.outcomes.values() for results in of.values())
    if not proven:
        verdict = f"nothing proven as a whole, {passed_alone} tests passed" if passed_alone else "nothing proven"
    elif rest or unrun:
        verdict = "not fully proven"
    elif lacking:
        verdict = "all proven that it offers"
    else:
        verdict = "fully proven"
    yield f"{name}: {verdict}"
    if proven:
        yield f"  proven: {', '.join(proven)}"
    if suite.times:
        repeated = [f"{aspect} {suite.repeated(aspect)} times" for aspect in suite.aspects if aspect in suite.times]
        yield f"  repeated: {', '.join(repeated)}"
    yield from lacking
    yield from rest
    if unrun:
        yield f"  not run: {', '.join(unrun)}"


def _is_lack(outcomes: Iterable[str]) -> bool:
    return all(outcome.startswith(rules.LACKS) for outcome in outcomes)


def _unproven(aspect: str, tests: set[str], outcomes: dict[str, set[str]]) -> Iterator[str]:
    by_outcome: dict[str, list[str]] = {}
    for test in sorted(outcomes):
        for outcome in sorted(outcomes[test] - {"passed"}):
            by_outcome.setdefault(outcome, []).append(test)
    for outcome, names in by_outcome.items():
        kind, _, reason = outcome.partition(": ")
        shown = ", ".join(names) if kind in ("failed", "waived") else f"{len(names)} of {len(tests)} tests"
        yield f"  {kind}: {aspect}: {shown}" + (f" - {reason}" if reason else "")
    if len(outcomes) < len(tests):
        yield f"  not run: {aspect}: {len(tests) - len(outcomes)} of {len(tests)} tests"
