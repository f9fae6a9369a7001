"""The worker, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FOLDER_VARIABLE: Final = "FLOWSTORE_DEMO_FOLDER"
READY: Final = "worker.ready"
LOG: Final = "worker.log"

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class DemoError(Exception):
    """The demo can't go on."""


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Celery worker while the block is executed. It never outlives the block, nor this process.

    Raises:
        DemoError: it doesn't start.
    """
    command = [sys.executable, "-m", "celery", "--app", "flowstore.demo.worker", "worker"]
    command += ["--pool=prefork", "--concurrency=2", "--loglevel=INFO", "--hostname=demo@localhost"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {**os.environ, FOLDER_VARIABLE: str(folder), "NO_COLOR": "1"}
    with (folder / LOG).open("wb") as log:
        # In a process group of its own: an interrupt from the keyboard is for this process, which ends the worker.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        _wait_until_ready(process, folder)
        yield process
    finally:
        _end(process)


def log_tail(folder: Path, lines: int = 20) -> str:
    """Return the last lines of the worker's log."""
    try:
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / READY).exists():
        if process.poll() is not None:
            raise DemoError(f"the worker ended at once, with status {process.returncode}")
        if time.monotonic() > deadline:
            raise DemoError(f"the worker is not ready after {_START_SECONDS:.0f} seconds")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()
