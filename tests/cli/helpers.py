"""Run the real command."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from flowstore.cli import flowstore

SCRIPT = Path(sys.executable).with_name("flowstore")

CONFIGURATION = """\
version: 1
storages:
  - name: Results
    classname: SqlStorage
    configuration: {connection_string: 'sqlite:///{DATA_DIR}/results.db', synchronous: NORMAL}
  - name: Files
    classname: FileStorage
    configuration: {path: '{DATA_DIR}/files', durable: false}
tasks:
  - name: shop.export
    storage: Files
global:
  default_storage: Results
"""


def shown_on(outer: int, answer: str = "") -> str:
    """Return what comes out of a terminal until nobody holds its other end; answer what is asked on it."""
    shown = bytearray()
    while True:
        try:
            block = os.read(outer, 65536)
        except OSError:  # Linux's way to say that nobody holds the other end any more
            break
        if not block:
            break
        shown += block
        if answer and b"[y/N]" in shown:
            os.write(outer, answer.encode())
            answer = ""
    os.close(outer)
    return shown.decode()


@dataclass(frozen=True)
class Place:
    """A folder with a configuration, in which the real command is run."""

    path: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DATA_DIR": str(self.path)}

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), *arguments],
            cwd=self.path,
            env={**self.environment, **extra},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )

    def fine(self, *arguments: str, **extra: str) -> str:
        """Run the command in this process; it has to end with 0. Return what it printed on stdout."""
        with contextlib.chdir(self.path):
            ended = CliRunner().invoke(flowstore, arguments, env={"DATA_DIR": str(self.path), **extra})
        assert ended.exit_code == 0, ended.stderr
        return ended.stdout


def until(condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
