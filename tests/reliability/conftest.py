from __future__ import annotations

import pytest

from tests.reliability.figures import COLLECTED, Figures


@pytest.fixture
def figures() -> Figures:
    """Where a test notes what it counted, to be printed when all have run."""
    return COLLECTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = list(COLLECTED.lines())
    if lines:
        terminalreporter.section("reliability: what was tried, and what went wrong")
        for line in lines:
            terminalreporter.line(line)
