from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.servers import met

# A shared machine is slow at times: how long an example takes says nothing about it.
settings.register_profile("flowstore", deadline=None, print_blob=True)
settings.load_profile("flowstore")


@pytest.fixture(autouse=True)
def no_outside_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the configuration of whoever runs the tests out of them; what is meant for tests says so."""
    for name in list(os.environ):
        if name.startswith("FLOWSTORE_") and not name.startswith("FLOWSTORE_TEST_"):
            monkeypatch.delenv(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the servers that the adapters met, and those that could not be had."""
    lines = list(met.lines())
    if lines:
        terminalreporter.section("the servers that the adapters met")
        for line in lines:
            terminalreporter.line(line)
