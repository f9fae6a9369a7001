from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

from flowstore.testing import rules
from tests.reliability.figures import COLLECTED
from tests.servers import met
from tests.storages.places import PLACES, SERVERS

# A shared machine is slow at times: how long an example takes says nothing about it.
settings.register_profile("flowstore", deadline=None, print_blob=True)
settings.load_profile("flowstore")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run the tests: more than there are processors, because many tests wait."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + processors // 2


@pytest.fixture(autouse=True)
def no_outside_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the configuration of whoever runs the tests out of them; what is meant for tests says so."""
    for name in list(os.environ):
        if name.startswith("FLOWSTORE_") and not name.startswith("FLOWSTORE_TEST_"):
            monkeypatch.delenv(name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a server is needed for, and what an ``each_time`` marker leaves to ``make test-all``."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        one, chosen = _one_of_several(item), item.get_closest_marker("each_time")
        if chosen and (unknown := {*chosen.args} - {*PLACES, *_aspects(item)}):
            raise pytest.UsageError(f"{item.nodeid}: 'each_time' names no kind of storage and no aspect: {unknown}")
        if one in SERVERS:
            item.add_marker(pytest.mark.server)
        if chosen and one not in {None, *chosen.args}:
            item.add_marker(pytest.mark.release)


def _one_of_several(item: pytest.Function) -> str | None:
    """Return the kind of storage, or the aspect of the kit, that a test is for."""
    kind = item.callspec.params.get("kind") if hasattr(item, "callspec") else None
    if isinstance(kind, str):
        return kind
    return rules.aspects_of(item.cls).get(item.originalname) if item.cls else None


def _aspects(item: pytest.Function) -> Iterable[str]:
    return rules.aspects_of(item.cls).values() if item.cls else ()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand on what this process noted, where several run a part of the tests each."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["met"] = met.told()
        output["figures"] = COLLECTED.told()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what such a process noted; one that died has nothing to say."""
    output = getattr(node, "workeroutput", {})
    if "met" in output:
        met.take_over(output["met"])
        COLLECTED.take_over(output["figures"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the servers that the adapters met, and those that could not be had."""
    lines = list(met.lines())
    if lines:
        terminalreporter.section("the servers that the adapters met")
        for line in lines:
            terminalreporter.line(line)
    lines = list(COLLECTED.lines())
    if lines:
        terminalreporter.section("reliability: what was tried, and what went wrong")
        for line in lines:
            terminalreporter.line(line)
