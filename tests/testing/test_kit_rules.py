"""What an author may not do with the kit, and what its report says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flowstore.testing
from flowstore.testing import StorageTests, plugin, rules

pytest_plugins = ["pytester"]

HEAD = """
import pytest
from flowstore.storages import MemoryStorage
from flowstore.testing import StorageTests

class MemoryTests(StorageTests):
    storage_class = MemoryStorage
    lacks = {
        "instances": "has its own",
        "processes": "has its own",
        "faults": "no server",
        "raw access": "no other way in",
        "foreign data": "nobody else's is there",
        "damaged records": "nobody else gets at them",
    }

    @pytest.fixture
    def configuration(self):
        return {}
"""


def run(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(test_acme=HEAD + text)
    return pytester.runpytest("-p", "no:cacheprovider", "-W", "error", *arguments)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def test_counts(self): pass", "overrides 'test_counts' of the kit"),
        ("test_counts = None", "overrides 'test_counts' of the kit"),
        ("@pytest.fixture\n    def storage(self): return MemoryStorage()", "overrides 'storage' of the kit"),
        ("@pytest.fixture\n    def adapter(self): return None", "overrides 'adapter' of the kit"),
        ("aspect = 'nothing'", "overrides 'aspect' of the kit"),
        ("waivers = {'test_count': 'a reason'}", "waives 'test_count', which is not a test of the kit"),
        ("waivers = {'test_counts': ' '}", "waives 'test_counts' without a reason"),
        (
            "lacks = {'revisions': 'a reason'}",
            "lacks 'revisions', which is not optional; optional are: damaged records, faults, foreign data,",
        ),
        ("lacks = {'faults': ''}", "lacks 'faults' without a reason"),
    ],
)
def test_refuses_a_class_that_would_not_test_what_it_says(pytester: pytest.Pytester, body: str, message: str) -> None:
    result = run(pytester, f"class TestAcme(MemoryTests):\n    {body}\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"E   TypeError: test_acme.TestAcme {message.replace('[', '[[]')}*"])


def test_refuses_to_override_by_a_mixin(pytester: pytest.Pytester) -> None:
    text = "class Quiet:\n    def test_counts(self): pass\n\nclass TestAcme(Quiet, MemoryTests):\n    pass\n"
    result = run(pytester, text)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E   TypeError: test_acme.TestAcme overrides 'test_counts' of the kit*"])


def test_further_tests_and_fixtures_are_the_authors(pytester: pytest.Pytester) -> None:
    text = """
class TestAcme(MemoryTests):
    @pytest.fixture
    def flow(self):
        return "flow"

    def test_of_acme(self, storage, flow):
        storage.store(flow, "task", "1", 1)
"""
    check(run(pytester, text, "-k", "of_acme"), passed=1)


def check(result: pytest.RunResult, **expected: int) -> None:
    """Check the outcomes of the tests that were selected."""
    found = result.parseoutcomes()
    assert {name: count for name, count in found.items() if name != "deselected"} == expected


BROKEN = """
class CountsNothing(MemoryStorage):
    def _count(self, query):
        return 0
"""


def test_a_waiver_is_a_strict_xfail(pytester: pytest.Pytester) -> None:
    text = f"""{BROKEN}
class TestAcme(MemoryTests):
    storage_class = CountsNothing
    waivers = {{"test_counts": "Acme can't count", "test_recognizes_its_own_write": "out of date"}}
"""
    result = run(pytester, text, "-k", "test_counts or test_recognizes", "-rx")
    check(result, xfailed=1, failed=1, passed=1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*out of date*", "XFAIL *test_counts - Acme can't count"])


def test_the_report_names_what_was_waived_and_what_failed(pytester: pytest.Pytester) -> None:
    text = f"""{BROKEN}
class TestAcme(MemoryTests):
    storage_class = CountsNothing
    waivers = {{"test_counts": "Acme can't count"}}
"""
    result = run(pytester, text)
    result.stdout.fnmatch_lines(
        [
            "TestAcme (test_acme.CountsNothing): not fully proven",
            "  proven: lifecycle (*), values (*), errors (2), records (*), revisions (*), *",
            "  not offered: instances: has its own",
            "  waived: listing: test_counts - Acme can't count",
            "  failed: expiry: test_cleanup_reclaims_what_has_expired, *",
        ]
    )
    result.stdout.no_fnmatch_line("  proven:*listing*")


def test_all_that_is_offered_is_not_more_than_that(pytester: pytest.Pytester) -> None:
    result = run(pytester, "class TestAcme(MemoryTests):\n    pass\n")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "TestAcme (flowstore.storages.memory.MemoryStorage): all proven that it offers",
            "  proven: lifecycle (*), fork (2)",
            "  not offered: server clock: *",
        ]
    )


@pytest.mark.parametrize(
    ("body", "arguments"), [("pass", ["-k", "no_such_test"]), ("pytestmark = pytest.mark.skip(reason='later')", [])]
)
def test_nothing_proven_is_never_full(pytester: pytest.Pytester, body: str, arguments: list[str]) -> None:
    result = run(pytester, f"class TestAcme(MemoryTests):\n    {body}\n", *arguments)
    result.stdout.fnmatch_lines(["TestAcme (flowstore.storages.memory.MemoryStorage): nothing proven*"])
    result.stdout.no_fnmatch_line("  proven:*")


def test_a_part_proven_is_never_full(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "class TestAcme(MemoryTests):\n    pass\n",
        "-k",
        "(hostile and not pattern) or alike or references_apart or test_counts",
    )
    check(result, passed=26)
    result.stdout.fnmatch_lines(
        [
            "TestAcme (flowstore.storages.memory.MemoryStorage): not fully proven",
            "  proven: keys (4)",
            "  not run: values: 7 of 9 tests",
            "  not run: lifecycle, errors, *",
        ]
    )


def test_repeats_the_concurrency_tests_alone(pytester: pytest.Pytester) -> None:
    text = "class TestAcme(MemoryTests):\n    pass\n"
    selected = "(one_thread_deletes and not revision) or (deletes_many and not seen)"
    result = run(pytester, text, "-k", selected, "--flowstore-repeat", "3", "-v")
    check(result, passed=4)
    result.stdout.fnmatch_lines(["*::test_one_thread_deletes[[]time3[]] PASSED*"])


def test_the_report_tells_how_often_the_concurrency_tests_were_run(pytester: pytest.Pytester) -> None:
    text = "class TestAcme(MemoryTests):\n    pass\n"
    result = run(pytester, text, "-k", "one_thread_deletes or values", "--flowstore-repeat", "3")
    result.stdout.fnmatch_lines(["  repeated: threads 3 times"])


def test_says_what_is_missing(pytester: pytest.Pytester) -> None:
    text = """
class TestWithoutConfiguration(StorageTests):
    storage_class = MemoryStorage

class TestWithoutClass(StorageTests):
    @pytest.fixture
    def configuration(self):
        return {}
"""
    result = run(pytester, text, "-k", "test_deletes_many and not seen")
    check(result, errors=2)
    result.stdout.fnmatch_lines(
        [
            "TestWithoutConfiguration must define a fixture `configuration` that returns a mapping",
            "TestWithoutClass must define `storage_class`, the class of the adapter",
        ]
    )


def test_every_test_tells_what_its_failure_means() -> None:
    tests = rules.aspects_of(StorageTests)
    assert len(tests) > 80
    assert [name for name in tests if not getattr(StorageTests, name).__doc__] == []
    assert set(tests.values()) > rules.OPTIONAL


def test_what_the_kit_asserts_is_shown() -> None:
    folder = Path(flowstore.testing.__file__).parent
    asserting = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if "\n        assert " in path.read_text(encoding="utf-8")
    }
    assert asserting <= set(plugin.REWRITTEN)


def test_the_plugin_costs_nothing_where_the_kit_is_not_used() -> None:
    code = (
        "import sys, flowstore.testing.plugin\n"
        "print(*sorted(name for name in sys.modules if name.startswith('flowstore')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = ["", ".testing", ".testing.plugin", ".testing.report", ".testing.rules"]
    assert done.stdout.split() == [f"flowstore{name}" for name in loaded]
