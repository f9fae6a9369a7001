"""A database that is restarted, or stopped for a while, under flows and writers: nothing is lost, nothing fails.

The sizes are those of a quick run; a figure is made with more:
FLOWSTORE_TEST_RESTARTS=10 FLOWSTORE_TEST_RESTART_FLOWS=30 pytest tests/reliability/test_restarts.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import chain, chord

from flowstore import FlowRun, FlowStore, NotFoundError, Query
from flowstore.storages import FileStorage, RoutingStorage
from tests.celery.sites import ROOT, until
from tests.reliability.figures import Figures
from tests.reliability.restart_app import SETTINGS, build
from tests.servers import mysql, postgres
from tests.servers import redis as redis_servers
from tests.servers.process import running
from tests.storages.redis.redis_kit import need_program

CLAIM = "a database that is restarted under 4 writers and flows of chains, chords and retries"
RESTARTS = int(os.environ.get("FLOWSTORE_TEST_RESTARTS", "2"))
FLOWS = int(os.environ.get("FLOWSTORE_TEST_RESTART_FLOWS", "6"))
SILENCE = float(os.environ.get("FLOWSTORE_TEST_STOPPED", "5"))
AWAY = float(os.environ.get("FLOWSTORE_TEST_AWAY", "4"))
WRITERS = 4
DOWN = 1.0
SOON = 300.0
"""Seconds after which a run that has no result counts as unfinished."""


@contextmanager
def database(kind: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield a private server, and the storage's entry for it."""
    if kind == "redis":
        need_program()
        with redis_servers.running({"appendonly": "yes", "appendfsync": "always", "save": '""'}) as server:
            yield server, {"classname": "RedisStorage", "configuration": {"host": "127.0.0.1", "port": server.port}}
        return
    module: Any = {"postgres": postgres, "mysql": mysql}[kind]
    if module.find() is None:
        pytest.skip(module.MISSING)
    types: dict[str, tuple[type[Any], str]] = {
        "postgres": (postgres.Postgres, "postgres"),
        "mysql": (mysql.Mysql, "mysql"),
    }
    with running(types[kind][0], [types[kind][1]]) as server:
        yield server, {"classname": "SqlStorage", "configuration": {"connection_string": server.url}}


class Trial:
    """A worker with four children and four writers, on one database."""

    def __init__(self, folder: Path, broker: str, configuration: dict[str, Any], counts: bool = True) -> None:
        self.folder = folder
        (folder / "returned").mkdir()
        settings = {"folder": str(folder), "broker": broker, "configuration": configuration, "counts": counts}
        file = folder / "settings.json"
        file.write_text(json.dumps(settings))
        environ = {**os.environ, SETTINGS: str(file), "PYTHONPATH": str(ROOT)}
        self.log = folder / "worker.log"
        worker = ["celery", "-A", "tests.reliability.restart_app", "worker", "-c", "4", "-l", "INFO"]
        worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with self.log.open("w") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", *worker], env=environ, stdout=log, stderr=log, start_new_session=True
            )
        self.writers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.reliability.restart_app", f"writer-{number}"],
                env=environ,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(WRITERS)
        ]
        # With a backend that nobody reads: what asks for results here is flowstore alone.
        self.app, self.store = build(settings, "cache+memory://")
        until(lambda: " ready." in self.log.read_text(), "a worker that is ready")

    def begin(self, number: int) -> FlowRun:
        """Start a flow: a chain, in it a chord of chains, then a task that is retried, then a chain."""
        add, flaky, total = (self.app.tasks[name] for name in ("add", "flaky", "total"))
        header = [chain(add.si(number), add.s()), flaky.si(number), chain(add.si(number), flaky.s())]
        return self.store.start(
            "restarted", chain(add.si(number), chord(header, total.s()), flaky.s(), add.s(), add.s())
        )

    def end(self) -> list[dict[str, Any]]:
        """End all processes; return what the writers tell."""
        (self.folder / "stop").touch()
        told = [json.loads(writer.communicate(timeout=120)[0]) for writer in self.writers]
        self.worker.terminate()
        self.worker.wait(60)
        return told

    def close(self) -> None:
        processes: list[subprocess.Popen[Any]] = [*self.writers, self.worker]
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.store.close()
        self.app.close()


def expected(number: int) -> int:
    return 3 * number + 2 + 1 + 2 + 1 + 1 + 1


@contextmanager
def trial(kind: str, folder: Path) -> Iterator[tuple[Any, Trial]]:
    with redis_servers.running({"save": '""'}) as broker, database(kind) as (server, entry):
        configuration = {"storages": [{"name": "S", **entry}], "global": {"default_storage": "S"}}
        one = Trial(folder, broker.url, configuration)
        try:
            yield server, one
        finally:
            one.close()


def failed_after_work(one: Trial, store: FlowStore) -> list[str]:
    """Return the tasks that had done their work and have no result."""
    missing = []
    for path in (one.folder / "returned").iterdir():
        try:
            store.retrieve("restarted", path.read_text(), path.name)
        except NotFoundError:
            missing.append(path.name)
    return missing


def judged(one: Trial, runs: list[FlowRun], kind: str, figures: Figures, **more: object) -> None:
    deadline = time.monotonic() + SOON
    right = wrong = unfinished = 0
    for number, run in enumerate(runs):
        try:
            right += run.get(timeout=max(1.0, deadline - time.monotonic())) == expected(number % FLOWS)
        except TimeoutError:
            unfinished += 1
        except Exception as exc:
            print(f"{run}: {type(exc).__name__}: {exc}")
            wrong += 1
    told = one.end()
    lost = [
        (writer, number)
        for writer, each in enumerate(told)
        for number in range(each["stored"])
        if one.store.retrieve("written", f"writer-{writer}", str(number), None) != number
    ]
    failed = failed_after_work(one, one.store)
    errors = [error for each in told for error in each["errors"]]
    figures.note(
        CLAIM,
        kind,
        **more,
        runs=len(runs),
        right=right,
        failed=wrong,
        unfinished=unfinished,
        tasks=len(list((one.folder / "returned").iterdir())),
        tasks_failed_whose_work_was_done=len(failed),
        stored_by_writers=sum(each["stored"] for each in told),
        calls_of_writers_that_failed=len(errors),
        acknowledged_and_lost=len(lost),
        longest_call=round(max(each["longest"] for each in told), 1),
    )
    assert (failed, errors, lost) == ([], [], [])
    assert (right, wrong, unfinished) == (len(runs), 0, 0)
    # No update of a writer was lost or done twice.
    assert [each["count"] for each in told] == [each["stored"] for each in told]


@pytest.mark.each_time("postgres")
@pytest.mark.parametrize("kind", ["postgres", "mysql", "redis"])
def test_restarts_lose_nothing_and_fail_nothing(kind: str, tmp_path: Path, figures: Figures) -> None:
    with trial(kind, tmp_path) as (server, one):
        runs = []
        for restart in range(RESTARTS):
            share = range(restart * FLOWS // RESTARTS, (restart + 1) * FLOWS // RESTARTS)
            runs += [one.begin(number) for number in share]
            time.sleep(1)
            server.kill()
            time.sleep(DOWN)
            server.start()
            time.sleep(1)
        judged(one, runs, kind, figures, restarts=RESTARTS)


@pytest.mark.each_time("postgres")
@pytest.mark.parametrize("kind", ["postgres", "mysql", "redis"])
def test_a_server_that_stands_still_loses_nothing_and_fails_nothing(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with trial(kind, tmp_path) as (server, one):
        runs = [one.begin(number) for number in range(FLOWS)]
        time.sleep(1)
        with _stopped(server):
            time.sleep(SILENCE)
        judged(one, runs, kind, figures, stopped_for=SILENCE)


def test_a_long_outage_is_bridged_by_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    example = yaml.safe_load((ROOT / "yaml_examples" / "long_outages.yaml").read_text())
    with redis_servers.running({"save": '""'}) as broker, database("postgres") as (server, entry):
        monkeypatch.setenv("POSTGRES_URL", entry["configuration"]["connection_string"])
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        one = Trial(tmp_path, broker.url, example, counts=False)
        try:
            # What is there before the outage, what begins in it, and what begins after it.
            runs = [one.begin(number) for number in range(FLOWS)]
            time.sleep(1)
            server.kill()
            time.sleep(AWAY / 2)
            runs += [one.begin(number) for number in range(FLOWS)]
            time.sleep(AWAY / 2)
            server.start()
            runs += [one.begin(number) for number in range(FLOWS)]
            judged(one, runs, "postgres, and a folder", figures, away_for=AWAY)
            storage = one.store.storage("Results")
            assert isinstance(storage, RoutingStorage)
            storage.settle()
            folder = FileStorage(str(tmp_path / "while-away"))
            folder.connect()
            assert folder.count(Query()) == 0
        finally:
            one.close()


@contextmanager
def _stopped(server: Any) -> Iterator[None]:
    """Stop a server's process and all of its children."""
    pids = _family(server.process.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]
