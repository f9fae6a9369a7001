"""Tasks per second of one Celery worker: results ignored, flowstore attached, and Celery's own SQLite backend.

Every round starts a fresh worker of each kind on the same queue of waiting tasks and times how long it takes from the
first task to the last, so that the kinds are interleaved and the machine's mood is shared. Ratios count, seconds don't.

    python -m benchmarks.worker_throughput [--tasks 4000] [--rounds 5] [--pool prefork] [--concurrency 2]

Needs a redis-server on the PATH, or an address in FLOWSTORE_TEST_REDIS_URL; without one kombu's file-system broker is
used, which is slow itself and therefore flatters every kind.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import redis

KINDS = ("ignored", "FULL", "NORMAL", "celery")
LABELS = {
    "ignored": "results ignored",
    "FULL": "flowstore, SQLite, WAL + synchronous=FULL (the default)",
    "NORMAL": "flowstore, SQLite, WAL + synchronous=NORMAL",
    "celery": "Celery's own backend on SQLite (db+sqlite)",
}


@contextmanager
def broker() -> Iterator[str]:
    """Give the URL of a broker; start a private redis-server if there is one."""
    if redis.GIVEN:
        yield redis.GIVEN
        return
    if redis.PROGRAM is None:
        yield "filesystem://"
        return
    with redis.running({"save": '""'}) as server:
        yield server.url


def measure(kind: str, url: str, folder: Path, tasks: int, pool: str, concurrency: int) -> float:
    """Return the tasks per second of one fresh worker."""
    work = Path(tempfile.mkdtemp(dir=folder))
    environment = {**os.environ, "BENCH_KIND": kind, "BENCH_BROKER": url, "BENCH_FOLDER": str(work)}
    fill = [sys.executable, "-m", "benchmarks.worker_app", str(tasks)]
    subprocess.run(fill, env=environment, check=True)
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.worker_app", "worker", "-l", "ERROR", "-P", pool]
    command += ["-c", str(concurrency), "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (work / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        first, last = work / "first", work / "last"
        deadline = time.monotonic() + 120
        while not last.exists():
            if worker.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the worker gave up:\n{(work / 'worker.log').read_text()}")
            time.sleep(0.02)
        return tasks / (last.stat().st_mtime - first.stat().st_mtime)
    finally:
        worker.terminate()
        worker.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pool", default="prefork")
    parser.add_argument("--concurrency", type=int, default=2)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name, broker() as url:
        for _ in range(options.rounds):
            for kind in KINDS:
                rates[kind].append(measure(kind, url, Path(name), options.tasks, options.pool, options.concurrency))
    print(
        f"broker {url.split(':')[0]}, pool {options.pool} x {options.concurrency}, {options.tasks} tasks of 200 B, "
        f"{options.rounds} rounds; ratios to 'results ignored' within a round, median (min to max)"
    )
    for kind in KINDS:
        ratios = [rate / base for rate, base in zip(rates[kind], rates["ignored"], strict=True)]
        print(
            f"{LABELS[kind]:58} {statistics.median(rates[kind]):7.0f} tasks/s  "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
