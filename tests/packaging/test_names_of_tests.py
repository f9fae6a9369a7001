"""Each file of tests has another name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_two_files_of_tests_have_the_same_name() -> None:
    """Pytest imports each by its name alone, as there are no packages: it would refuse the second one."""
    names = Counter(file.name for file in TESTS.rglob("test_*.py"))
    assert names[Path(__file__).name] == 1
    assert [name for name, times in names.items() if times > 1] == []
