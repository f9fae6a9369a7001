"""Private database servers: programs that run in a temporary folder and are ended by their handle."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

USER = "flowstore"
PASSWORD = "canary-7f3a"
"""Searched for in all that flowstore says."""

S = TypeVar("S", bound="Server")


def in_package(name: str, *path: str) -> Path | None:
    """Return where a package brings something, or ``None`` where the package is not installed."""
    found = importlib.util.find_spec(name)
    return None if found is None or found.origin is None else Path(found.origin).parent.joinpath(*path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unprivileged(names: Sequence[str]) -> dict[str, Any]:
    """Return Popen's arguments for somebody who is not root: database servers refuse to be."""
    if os.getuid():
        return {}
    for name in (*names, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("root can't run a database server, and there is no user named nobody")


class Server(ABC):
    """A private server; it can be killed and started again with what it has stored."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = identity
        self.port = free_port()
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def create(self) -> None:
        """Create an empty database below the folder."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line of the server."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server takes statements."""

    def call(self, *command: str) -> None:
        """Run a program as the server's user."""
        done = subprocess.run(command, capture_output=True, cwd=self.folder, **self.identity)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout.decode()}{done.stderr.decode()}")

    def start(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if self.process is None or self.process.poll() is not None:
                # Anew, if need be: right after a kill, the old server's children may still hold on to its memory.
                with self.log.open("ab") as log:
                    self.process = subprocess.Popen(
                        self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.identity
                    )
            if self.answers():
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server does not answer:\n{self.log.read_text()[-5000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


@contextmanager
def running(kind: type[S], users: Sequence[str]) -> Iterator[S]:
    """Start a private server and end it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="flowstore-"))
    try:
        identity = unprivileged(users)
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        server = kind(folder, identity)
        server.create()
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
