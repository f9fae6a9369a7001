"""What a worker's main process stores: handed over, so that it never waits for a storage."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

ROOM: Final = 1000
"""How many ends of tasks may wait to be stored."""
PATIENCE: Final = 0.25
"""Seconds that the main process waits for one to be stored before it sends error callbacks, if no other waits."""
LAST_PATIENCE: Final = 10.0
"""Seconds that a worker's shutdown waits for what has not been stored yet."""


class _Job:
    def __init__(self, write: Callable[[], None], what: str) -> None:
        self.write = write
        self.what = what
        self.done = threading.Event()


class Writer:
    """Store one thing after the other, in a thread of its own that is started for the first one."""

    def __init__(self) -> None:
        self._queue: queue.Queue[_Job] = queue.Queue(ROOM)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._current: _Job | None = None
        self._late: _Job | None = None

    def hand_over(self, write: Callable[[], None], what: str, *, wait: bool = False) -> None:
        """Let something be stored soon. What finds no room is lost, and logged.

        Args:
            write: stores it.
            what: what it is, for the log.
            wait: whether to wait a moment for it to be stored; not done while an earlier one is still waited for.
        """
        job = _Job(write, what)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            log.error("%s is not stored: %d others wait to be stored already", what, ROOM)
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flowstore-writer", daemon=True)
                self._thread.start()
        if wait and (self._late is None or self._late.done.is_set()):
            self._late = None if job.done.wait(PATIENCE) else job

    def flush(self, patience: float = LAST_PATIENCE) -> None:
        """Wait for all to be stored that was handed over; what isn't by then is lost, and logged."""
        jobs = self._queue
        with jobs.all_tasks_done:
            if jobs.all_tasks_done.wait_for(lambda: not jobs.unfinished_tasks, patience):
                return
        left = [] if self._current is None else [self._current]
        while True:
            try:
                left.append(jobs.get_nowait())
            except queue.Empty:
                break
        for job in left:
            log.error("%s is not stored: the worker ends, and %s s were not enough", job.what, patience)

    def _run(self) -> None:
        while True:
            job = self._current = self._queue.get()
            try:
                job.write()
            except Exception:
                log.exception("%s is not stored", job.what)
            finally:
                self._current = None
                job.done.set()
                self._queue.task_done()


_writer = Writer()
_main_process: int | None = None


def become_main_process() -> None:
    """Take this process for the main process of a worker, until ``end_main_process``."""
    global _writer, _main_process
    if _main_process != os.getpid():
        _writer = Writer()
        _main_process = os.getpid()


def end_main_process() -> None:
    """Store what has been handed over, within a bound; what comes later is stored at once."""
    global _main_process
    if _main_process == os.getpid():
        _main_process = None
        _writer.flush()


def hand_over(write: Callable[[], None], what: str, *, wait: bool = False) -> None:
    """Store something: in a worker's main process a little later, elsewhere now."""
    if _main_process == os.getpid():
        _writer.hand_over(write, what, wait=wait)
    else:
        write()
