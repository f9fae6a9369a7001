"""What streaming a blob costs in memory and time, in a fresh process for each adapter.

Run it with: python -m benchmarks.blobs [adapter ...] [--size 1024]

The blob is made while it is read, and checked while it is retrieved. Printed is the peak of the process's resident
memory above what it had when it was connected and had stored and retrieved a blob of one byte.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from flowstore.record import Key

KEY: Final = Key("flow", "task", "1")
MIB: Final = 1 << 20

Place = tuple[str, dict[str, Any]]
"""An adapter's class and its configuration."""


@contextmanager
def files() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield "FileStorage", {"path": f"{folder}/blobs"}


@contextmanager
def sqlite() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield "SqlStorage", {"connection_string": f"sqlite:///{folder}/blobs.db"}


@contextmanager
def postgres() -> Iterator[Place]:
    from tests.servers import postgres as servers

    with servers.url() as url:
        yield "SqlStorage", {"connection_string": url}


@contextmanager
def mysql() -> Iterator[Place]:
    from tests.servers import mysql as servers

    with servers.url() as url:
        yield "SqlStorage", {"connection_string": url}


@contextmanager
def redis() -> Iterator[Place]:
    from tests.servers import redis as servers

    with servers.url() as url:
        yield "RedisStorage", {"url": url, "prefix": f"blobs-{uuid.uuid4().hex}", "unsafe_settings": "ignore"}


@contextmanager
def mongo() -> Iterator[Place]:
    from tests.servers import mongo as servers

    kinds = [kind for kind in (servers.Mongod, servers.JavaServer) if servers.missing(kind) is None]
    with servers.running(kinds[0]) as place:
        collection_name = f"blobs_{uuid.uuid4().hex}"
        yield "MongoStorage", {"uri": place.uri, "db_name": "flowstore_bench", "collection_name": collection_name}


@contextmanager
def s3() -> Iterator[Place]:
    from tests.servers import s3 as servers

    with servers.real() as store:
        yield "S3Storage", {**store.configuration, "prefix": f"blobs-{uuid.uuid4().hex}/"}


PLACES: Final[Mapping[str, Callable[[], AbstractContextManager[Place]]]] = {
    "files": files,
    "sqlite": sqlite,
    "postgres": postgres,
    "mysql": mysql,
    "redis": redis,
    "mongo": mongo,
    "s3": s3,
}


class Made(io.RawIOBase):
    """A file whose bytes are generated while it is read, at most a MiB at a time; no two parts are the same."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        before = self._at % MIB
        data = made(self._at - before, min(MIB, self._size - self._at + before))[before : before + size]
        self._at += len(data)
        return data


_FILLING: Final = random.Random(1).randbytes(MIB)


def made(start: int, size: int) -> bytes:
    """Return a MiB of the file that is made, or its end; it begins at a whole number of them."""
    return (b"%016x" % start + _FILLING[16:])[:size]


def resident(name: str) -> float:
    """Return a figure of this process's memory in MiB: ``VmRSS`` now, ``VmHWM`` at most since ``forget_peak``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(classname: str, configuration: dict[str, Any], size: int) -> dict[str, float]:
    """Store and retrieve one blob; return seconds, and MiB above the baseline."""
    storage = getattr(importlib.import_module("flowstore.storages"), classname)(**configuration)
    storage.connect()
    storage.store_blob(KEY, "small", b"1")
    storage.retrieve_blob(KEY, "small").close()
    made(0, MIB)
    figures = {"baseline": resident("VmRSS")}
    forget_peak()
    begin = time.perf_counter()
    if storage.store_blob(KEY, "large", Made(size)) != size:
        raise SystemExit("the size is wrong")
    figures["store seconds"] = time.perf_counter() - begin
    figures["store MiB"] = resident("VmHWM") - figures["baseline"]
    forget_peak()
    begin = time.perf_counter()
    position = 0
    with storage.retrieve_blob(KEY, "large") as file:
        while part := file.read(MIB):
            if part != made(position, len(part)):
                raise SystemExit(f"other bytes came back, in the MiB from byte {position} on")
            position += len(part)
    if position != size:
        raise SystemExit(f"{position} bytes came back")
    figures["retrieve seconds"] = time.perf_counter() - begin
    figures["retrieve MiB"] = resident("VmHWM") - figures["baseline"]
    storage.delete_blob(KEY, "large")
    if any(True for _ in storage._contents()):
        raise SystemExit("something is left after deleting")
    storage.disconnect()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", nargs="*", help=f"of {', '.join(PLACES)}; all by default")
    parser.add_argument("--size", type=int, default=1024, help="of the blob, in MiB")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(*json.loads(arguments.child))))
        return
    print(f"a blob of {arguments.size} MiB; memory above the baseline")
    for name in arguments.adapters or PLACES:
        with PLACES[name]() as (classname, configuration):
            job = json.dumps([classname, configuration, arguments.size * MIB])
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.blobs", "--child", job], capture_output=True, text=True, check=False
            )
        if done.returncode:
            print(f"{name:10} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        figures = json.loads(done.stdout)
        for what in ("store", "retrieve"):
            seconds, peak = figures[f"{what} seconds"], figures[f"{what} MiB"]
            rate = arguments.size / seconds
            print(f"{name:10} {what:8} {peak:6.1f} MiB  {seconds:7.1f} s  {rate:6.1f} MiB/s", flush=True)


if __name__ == "__main__":
    main()
