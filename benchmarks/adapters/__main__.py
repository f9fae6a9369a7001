"""Measure each adapter next to its raw driver and to Celery's own result backend for that database.

    python -m benchmarks.adapters [--only redis --only sqlite] [--rounds 20] [--size "200 B"] [--cpu 0]

Each server is found as the tests find theirs: at an address in the environment, or a program that is started privately.
Contenders take turns in blocks of some ten milliseconds; ratios are within a round. Ratios count, seconds don't: on a
machine that others use too, look at the CPU time of this process as well.
"""

from __future__ import annotations

import argparse
import importlib
import os
import warnings
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.adapters.measuring import operations, threads
from benchmarks.adapters.report import Report
from benchmarks.adapters.values import VALUES

SUBJECTS: Final = {
    "memory": "memory:subject",
    "file": "file:durable",
    "file-fast": "file:fast",
    "sqlite": "sqlite:durable",
    "sqlite-fast": "sqlite:fast",
    "postgres": "postgres:subject",
    "mysql": "mysql:subject",
    "redis": "redis:subject",
    "mongo": "mongo:subject",
    "s3": "s3:subject",
}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(SUBJECTS), help="measure this one; may be repeated")
    parser.add_argument(
        "--size", action="append", choices=list(VALUES), help="with values of this size; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=20, help="of single calls; a quarter as many of batches")
    parser.add_argument("--no-threads", action="store_true", help="leave out what several threads do at once")
    parser.add_argument("--cpu", type=int, help="put this process and the servers that it starts on one CPU")
    parser.add_argument("--json", type=Path, default=Path(".build/bench-adapters.json"), help="where the figures go")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    warnings.simplefilter("ignore")  # of Celery's backends
    console = Console(width=None if os.isatty(1) else 140)
    report = Report(console, {name: str(value) for name, value in vars(options).items()})
    for name in options.only or SUBJECTS:
        module_name, _, attribute = SUBJECTS[name].partition(":")
        module = importlib.import_module(f"benchmarks.adapters.{module_name}")
        missing = getattr(module, "MISSING", None)
        if missing is not None:
            report.skip(name, missing)
            continue
        with getattr(module, attribute)() as subject:
            measured = list(operations(subject, options.rounds, options.size or list(VALUES)))
            threaded = None if options.no_threads else threads(subject, max(3, options.rounds // 4))
            report.show(subject, measured, threaded)
    report.save(options.json)


if __name__ == "__main__":
    main()
