"""A pytest plugin for Celery's own tests: it notes each test's verdict, and attaches flowstore where it is asked to."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.celery_suite.attached import FOLDER, attach

VERDICTS: Final = "CELERY_SUITE_VERDICTS"
"""The environment variable with the file that the verdicts are written to."""

_APPS = ("celery_app", "celery_session_app")
_verdicts: dict[str, str] = {}


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    """Attach flowstore to each app as soon as there is one, before its worker starts."""
    value = yield
    if fixturedef.argname in _APPS and FOLDER in os.environ:
        attach(value)
    return value


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a test ended; of one that is tried again, the last time counts."""
    verdict: str = report.outcome
    if verdict == "rerun":
        return
    if report.when == "call" or verdict != "passed":
        if hasattr(report, "wasxfail"):
            verdict = "xpassed" if report.passed else "xfailed"
        if report.when != "call" and report.failed:
            verdict = f"error in {report.when}"
        _verdicts[report.nodeid] = verdict


def pytest_sessionfinish() -> None:
    """Write the verdicts down."""
    Path(os.environ[VERDICTS]).write_text(json.dumps(_verdicts, indent=1))
