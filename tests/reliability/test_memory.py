"""What a task was given is let go of with the task, as in Celery alone."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.celery.sites import ROOT
from tests.reliability.figures import Figures

TASKS = int(os.environ.get("FLOWSTORE_TEST_ARGUMENTS", "20"))
SIZE = 20_000_000


def taken(kind: str) -> int:
    """Return how much more memory a process took at most than before its tasks."""
    command = [sys.executable, "-m", "tests.reliability.arguments_in_memory", kind, str(TASKS), str(SIZE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_arguments_take_no_more_memory_than_without_flowstore(figures: Figures) -> None:
    plain, attached = taken("plain"), taken("attached")
    counts = {"tasks": TASKS, "plain_MB": plain // 10**6, "attached_MB": attached // 10**6}
    figures.note("memory of tasks with arguments of 20 MB, over what the process had", "", **counts)
    assert plain > SIZE / 2  # the arguments of one task are seen
    assert attached < plain + SIZE / 2
