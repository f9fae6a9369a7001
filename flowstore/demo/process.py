"""Start and stop the worker process of the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

FOLDER_VARIABLE: Final = "FLOWSTORE_DEMO_FOLDER"
READY: Final = "worker.pid"
"""File with the worker's process id, written when it is ready."""
LOG: Final = "worker.log"

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class DemoError(Exception):
    """The demo failed."""


class Worker:
    """A context manager that runs a worker; it ends with this process.

    Raises:
        DemoError: the worker does not start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopping = False
        command = [sys.executable, "-m", "celery", "--app", "flowstore.demo.worker", "worker"]
        command += ["--pool=prefork", "--concurrency=2", "--loglevel=INFO", "--hostname=demo@localhost"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with (folder / LOG).open("wb") as log:
            # In a new process group: a keyboard interrupt reaches only this process, which ends the worker.
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, FOLDER_VARIABLE: str(folder)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def __enter__(self) -> Self:
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self) -> None:
        """Raise DemoError if the worker has ended."""
        status = self._process.poll()
        if status is not None:
            raise DemoError(f"the worker ended with status {status}")

    def stop(self) -> None:
        """Ask the worker to shut down; the end of the block waits for it."""
        if not self._stopping:
            self._stopping = True
            self._process.terminate()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not (self._folder / READY).exists():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"the worker was not ready after {_START_SECONDS:.0f} seconds")
            time.sleep(0.05)

    def _end(self) -> None:
        self.stop()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
        except BaseException:  # a second interrupt: don't wait any longer
            self._kill()
            raise
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def log_tail(folder: Path, lines: int = 20) -> str:
    """Return the last lines of the worker's log."""
    try:
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
