"""A queue of writes, so that a worker's main process never waits."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

QUEUE_SIZE: Final = 1000
"""How many writes may be queued."""
WAIT_SECONDS: Final = 0.25
"""Seconds that the main process waits for a write before it sends error callbacks."""
SHUTDOWN_SECONDS: Final = 10.0
"""Seconds that a worker's shutdown waits for queued writes."""


class _Job:
    def __init__(self, write: Callable[[], None], what: str) -> None:
        self.write = write
        self.what = what
        self.done = threading.Event()


class BackgroundWriter:
    """A queue of writes and its thread, which starts with the first write."""

    def __init__(self) -> None:
        self._queue: queue.Queue[_Job] = queue.Queue(QUEUE_SIZE)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._current: _Job | None = None
        self._late: _Job | None = None

    def hand_over(self, write: Callable[[], None], what: str, *, wait: bool = False) -> None:
        """Queue a write. If the queue is full, the write is lost and logged.

        Args:
            write: does the write.
            what: what is written, for the log.
            wait: whether to wait up to ``WAIT_SECONDS`` for it; ignored while an earlier such write is late.
        """
        job = _Job(write, what)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            log.error("can't store %s: %d writes are queued already", what, QUEUE_SIZE)
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flowstore-writer", daemon=True)
                self._thread.start()
        if wait and (self._late is None or self._late.done.is_set()):
            self._late = None if job.done.wait(WAIT_SECONDS) else job

    def flush(self, timeout: float = SHUTDOWN_SECONDS) -> None:
        """Wait for all queued writes; those that are late are lost and logged."""
        jobs = self._queue
        with jobs.all_tasks_done:
            if jobs.all_tasks_done.wait_for(lambda: not jobs.unfinished_tasks, timeout):
                return
        left = [] if self._current is None else [self._current]
        while True:
            try:
                left.append(jobs.get_nowait())
            except queue.Empty:
                break
        for job in left:
            log.error("can't store %s: the worker shut down after waiting %s s", job.what, timeout)

    def _run(self) -> None:
        while True:
            job = self._current = self._queue.get()
            try:
                job.write()
            except Exception:
                log.exception("can't store %s", job.what)
            finally:
                self._current = None
                job.done.set()
                self._queue.task_done()


_writer = BackgroundWriter()
_main_process: int | None = None


def become_main_process() -> None:
    """Queue writes of this process from now on, until ``end_main_process``."""
    global _writer, _main_process
    if _main_process != os.getpid():
        _writer = BackgroundWriter()
        _main_process = os.getpid()


def end_main_process() -> None:
    """Flush the queue; later writes are done at once."""
    global _main_process
    if _main_process == os.getpid():
        _main_process = None
        _writer.flush()


def hand_over(write: Callable[[], None], what: str, *, wait: bool = False) -> None:
    """Write now, or later if this is a worker's main process."""
    if _main_process == os.getpid():
        _writer.hand_over(write, what, wait=wait)
    else:
        write()
