"""The pytest plugin of the kit: options, waivers, report."""

from __future__ import annotations

from typing import Final

import pytest

from flowstore.testing import rules
from flowstore.testing.report import REPETITION, Report

REWRITTEN: Final = (
    "aspects.addresses",
    "aspects.batches",
    "aspects.blobs",
    "aspects.capabilities",
    "aspects.claims",
    "aspects.contents",
    "aspects.damaged",
    "aspects.expiry",
    "aspects.faults",
    "aspects.fields",
    "aspects.large_batches",
    "aspects.lifecycle",
    "aspects.listing",
    "aspects.lost_answers",
    "aspects.lost_updates",
    "aspects.processes",
    "aspects.queries",
    "aspects.records",
    "aspects.sizes",
    "aspects.threads",
    "aspects.upkeep",
    "aspects.values",
    "races",
)
"""Modules of the kit with rewritten asserts; registered before they are imported."""

pytest.register_assert_rewrite(*(f"flowstore.testing.{name}" for name in REWRITTEN))

REPEATED: Final = frozenset({"threads", "fork", "processes"})
_REPORT: Final = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that repeats concurrency tests."""
    parser.getgroup("flowstore").addoption(
        "--flowstore-repeat",
        type=int,
        default=1,
        metavar="N",
        help="run each concurrency test of flowstore's conformance kit N times",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the report."""
    config.stash[_REPORT] = report = Report()
    config.pluginmanager.register(report, "flowstore-report")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the concurrency tests of the kit."""
    times = metafunc.config.getoption("--flowstore-repeat")
    if times > 1 and _aspect(metafunc.cls, metafunc.function.__name__) in REPEATED:
        metafunc.fixturenames.append(REPETITION)
        metafunc.parametrize(REPETITION, range(1, times + 1), ids=lambda time: f"time{time}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Apply ``waivers`` and ``lacks``, before other plugins select tests."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        aspect = _aspect(item.cls, item.originalname)
        if aspect is None:
            continue
        lack = item.cls.lacks.get(aspect)
        reason = item.cls.waivers.get(item.originalname, item.cls.waivers.get(item.name))
        if lack is not None:
            item.add_marker(pytest.mark.skip(reason=f"{rules.LACKS}{lack}"))
        elif reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        config.stash[_REPORT].expect(item, aspect)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what each adapter proved."""
    lines = config.stash[_REPORT].lines()
    if lines and not config.option.collectonly:
        terminalreporter.section("flowstore: what the adapters proved")
        for line in lines:
            terminalreporter.line(line)


def _aspect(cls: type | None, name: str) -> str | None:
    # Does not load the kit, which most runs of pytest don't need.
    if cls is None or not any(rules.is_kit(base) for base in cls.__mro__):
        return None
    return rules.aspects_of(cls).get(name)
