"""Places where flows run in tests: a folder with a broker, result backend and databases, a client, and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from flowstore import FlowRun, NotFoundError, RemoteTaskError
from tests.celery.app.flowapp import build

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which something that has to happen counts as not happening."""

T = TypeVar("T")


def until(ask: Callable[[], T], what: str = "what was waited for") -> T:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if answer := ask():
            return answer
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE} s; last answer: {answer!r}"
        time.sleep(0.02)


class Worker:
    """A real worker, in a process group of its own."""

    def __init__(self, folder: Path, environ: Mapping[str, str], pool: str, concurrency: int, *arguments: str) -> None:
        self.log_path = folder / f"worker-{len(list(folder.glob('worker-*.log')))}.log"
        command = [sys.executable, "-m", "celery", "-A", "tests.celery.app.worker_app", "worker", "--loglevel", "INFO"]
        command += ["--pool", pool, "--concurrency", str(concurrency), "--hostname", f"{self.log_path.stem}@test"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *arguments]
        environ = {**os.environ, "FLOWAPP_FOLDER": str(folder), "PYTHONPATH": str(ROOT), **environ}
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environ, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the worker ended early:\n{self.log}"
            return " ready." in self.log

        until(ready, f"a worker that is ready, log in {self.log_path}")

    def kill(self) -> None:
        """Kill the worker and its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Let the worker end in good order."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()


class Site:
    """Everything that a test needs to run flows, seen from a client."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._environ = environ or {}
        for name in ("broker", "processed", "control", "results", "ledger", "gates"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings))
        self.app, self.store = build(folder)
        self.workers: list[Worker] = []

    def start_worker(self, pool: str = "prefork", concurrency: int = 2, *arguments: str) -> Worker:
        worker = Worker(self.folder, self._environ, pool, concurrency, *arguments)
        self.workers.append(worker)
        worker.wait_until_ready()
        return worker

    def redeliver(self) -> None:
        """Put back what a killed worker took and did not acknowledge; sooner than the broker would by itself."""
        if self.app.conf.broker_url.startswith("redis"):
            with self.app.connection_for_write() as connection:
                channel = connection.default_channel
                for tag in channel.client.hkeys(channel.unacked_key):
                    channel.qos.restore_by_tag(tag.decode() if isinstance(tag, bytes) else tag)
        else:  # this one forgets what was taken, so everything is delivered again
            for path in (self.folder / "processed").glob("*.celery.msg"):
                shutil.move(path, self.folder / "broker")

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.store.close()
        self.app.close()

    def sig(self, name: str, *args: Any, **options: Any) -> Any:
        """Return the signature of a task, by its name; options are those of ``apply_async``."""
        return self.app.tasks[name].s(*args).set(**options)

    def si(self, name: str, *args: Any, **options: Any) -> Any:
        """Return an immutable signature of a task."""
        return self.app.tasks[name].si(*args).set(**options)

    def start(self, flow_name: str, name: str, *args: Any, **options: Any) -> FlowRun:
        """Start one task as a flow."""
        return self.store.start(flow_name, self.sig(name, *args), **options)

    def end_of(self, run: FlowRun) -> Any:
        """Wait for a run's end; return its result, or the error that ended it."""
        try:
            return run.get(timeout=PATIENCE)
        except RemoteTaskError as exc:
            return exc

    def state(self, task_id: str) -> str:
        """Return the state that Celery tells for a task."""
        # Its file backend may be read in the middle of its writing.
        with suppress(Exception):
            return str(self.app.AsyncResult(task_id).state)
        return "UNREADABLE"

    def celery_end(self, task_id: str, *states: str) -> str:
        """Wait until Celery tells one of these states, by default an end, and return it."""
        wanted = states or ("SUCCESS", "FAILURE", "REVOKED")
        until(lambda: self.state(task_id) in wanted, f"an end of task {task_id} in {wanted}")
        return self.state(task_id)

    def error_of(self, flow_name: str, task_name: str, task_id: str) -> RemoteTaskError:
        """Wait for a stored error."""
        return until(
            lambda: self.store.retrieve_error(flow_name, task_name, task_id, default=None),
            f"an error of {flow_name} / {task_name} / {task_id}",
        )

    def result_of(self, flow_name: str, task_name: str, task_id: str) -> Any:
        """Wait for a stored result."""

        def read() -> tuple[Any] | None:
            try:
                return (self.store.retrieve(flow_name, task_name, task_id),)
            except NotFoundError:
                return None

        found = until(read, f"a result of {flow_name} / {task_name} / {task_id}")
        return found and found[0]

    @contextmanager
    def switched_off(self, times: int | None = None) -> Iterator[None]:
        """Let the storages Retry, Fail and Log refuse everything, or that many writes."""
        switch = self.folder / "switch"
        switch.write_text("" if times is None else str(times))
        try:
            yield
        finally:
            switch.unlink()
