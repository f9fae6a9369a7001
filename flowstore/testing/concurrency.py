"""Doing things at once: in threads, in processes of their own, and in forked children."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import cache
from importlib import import_module
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from flowstore.testing.base import Adapter

T = TypeVar("T")

THREADS: Final = 8
PROCESSES: Final = 8
ROUNDS: Final = 20

_DRIVERS: Final = (
    "boto3",
    "psycopg",
    "psycopg_pool",
    "pymongo",
    "pymysql",
    "redis",
    *(f"sqlalchemy.dialects.{name}" for name in ("mysql", "postgresql", "sqlite")),
)
_LOADED_LATE: Final = ("cachetools", "jsonschema", "pydantic", "sqlite3", "yaml")
_ROOMS: Final = ("config", "encoding", "record", "storage", "store")


def in_threads(work: Callable[[Any, int], T], deadline: float, count: int = THREADS) -> list[T]:
    """Run ``work(barrier, worker)`` in threads at once and return what each returned.

    The threads change as often as possible: else each would be done before the next one begins.
    """
    barrier = threading.Barrier(count, timeout=deadline)
    futures: list[Future[T]] = [Future() for _ in range(count)]

    def run(worker: int, future: Future[T]) -> None:
        try:
            future.set_result(work(barrier, worker))
        except BaseException as exc:
            barrier.abort()
            future.set_exception(exc)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker, future in enumerate(futures):
            # A daemon: one that hangs must not keep the whole run from ending.
            threading.Thread(target=run, args=(worker, future), daemon=True).start()
        hanging = wait(futures, deadline).not_done
    finally:
        sys.setswitchinterval(interval)
    if hanging:
        pytest.fail(f"{len(hanging)} of {count} threads did not end within {deadline} s: does one hold a lock forever?")
    errors = [exc for future in futures if (exc := future.exception()) is not None]
    for exc in sorted(errors, key=lambda exc: isinstance(exc, threading.BrokenBarrierError)):
        raise exc
    return [future.result() for future in futures]


def in_processes(
    adapter: Adapter, work: Callable[[Adapter, Any, int], T], deadline: float, count: int = PROCESSES
) -> list[T]:
    """Run ``work(adapter, barrier, worker)`` in new processes at once and return what each returned.

    They share nothing with this one, as on different machines; ``work`` has to be a function of a module.
    """
    context = fork_server()
    environment = dict(os.environ)  # that of the other process is of the time when it began
    barrier = context.Barrier(count, timeout=deadline)
    started = []
    for worker in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(sender, work, adapter, barrier, worker, environment), daemon=True)
        process.start()
        sender.close()
        started.append((process, receiver))
    answers = [_answer(receiver, time.monotonic() + deadline) for _, receiver in started]
    for process, receiver in started:
        process.join(deadline)
        if process.exitcode is None:
            process.kill()
            process.join()
        receiver.close()
    # One that fails breaks the barrier for all the others: what they tell is not why.
    failures = sorted((told for told in answers if isinstance(told, str)), key=_tells_of_the_barrier)
    if failures:
        pytest.fail(f"{len(failures)} of {count} processes failed; the first one:\n{failures[0]}")
    return [told[0] for told in answers]


def fork_server() -> ForkServerContext:
    """Return what starts new processes quickly.

    They come from a process that has done nothing but import: that is as good as a new one.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_preloaded())
    return context


@cache
def _preloaded() -> list[str]:
    """Return the modules that a new process is spared importing, as far as they are installed."""
    names = [*_DRIVERS, *_LOADED_LATE, "flowstore.testing.suites"]
    for package in (*_ROOMS, "storages"):
        for folder in import_module(f"flowstore.{package}").__path__:
            files = [file.relative_to(folder).with_suffix("") for file in Path(folder).rglob("*.py")]
            names += [".".join(("flowstore", package, *file.parts)) for file in files if "versions" not in file.parts]
    return [__name__, *(name.removesuffix(".__init__") for name in names)]


def _run(
    sender: connection.Connection,
    work: Callable[..., Any],
    adapter: Adapter,
    barrier: Any,
    worker: int,
    environment: dict[str, str],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    try:
        sender.send((work(adapter, barrier, worker),))
    except BaseException:
        barrier.abort()
        sender.send(traceback.format_exc())


def _tells_of_the_barrier(failure: str) -> bool:
    return failure.rstrip().endswith(threading.BrokenBarrierError.__name__)


def _answer(receiver: connection.Connection, until: float) -> Any:
    if not receiver.poll(max(0.0, until - time.monotonic())):
        return "it did not end in time: does it wait for a lock that is never released?"
    try:
        return receiver.recv()
    except EOFError:
        return "it died"


def in_child(work: Callable[[], object]) -> int:
    """Run a function in a forked child; return its pid, for ``wait_for``."""
    with warnings.catch_warnings():
        # Drivers have threads of their own. That prefork workers are forked all the same is why this is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait_for(pid: int, deadline: float = 60.0) -> None:
    """Wait until a child has ended, and fail if it did not end well or in time."""
    until = time.monotonic() + deadline
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail(f"the forked child did not end within {deadline} s")
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    if code:
        pytest.fail(f"the forked child failed with {code}; its error is in the captured output")
