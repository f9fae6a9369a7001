"""Servers that are killed and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flowstore.errors import OutcomeUnknownError, UnreachableError
from flowstore.record import Key, Query
from tests.servers import met, mysql, postgres
from tests.servers.process import Server
from tests.storages.storage_kit import opened, record

WRITERS = 4
KILLS = 5


@pytest.fixture(params=["postgres", "mysql"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Any = {"postgres": postgres, "mysql": mysql}[request.param]
    if kind.find() is None:
        met.skip("SqlStorage", kind.MISSING)
    with kind.private() as server:
        yield server


def recipe(server: Any) -> tuple[str, dict[str, Any]]:
    return "SqlStorage", {"connection_string": server.url}


def wait(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_acknowledged_survives_the_server(server: Server) -> None:
    acknowledged: list[Key] = []
    errors: list[BaseException] = []
    stop = threading.Event()

    def write(worker: int) -> None:
        number = 0
        while not stop.is_set():
            mine = record(Key("f", str(worker), str(number)), number)
            while not stop.is_set():
                try:
                    # A retry meets its own write, or none.
                    stored = storage.put(mine, if_revision=0)
                    assert storage.get(mine.key, payload=False).revision == stored.revision
                except UnreachableError as exc:
                    errors.append(exc)
                    time.sleep(0.01)
                except BaseException as exc:
                    errors.append(exc)
                    raise
                else:
                    acknowledged.append(mine.key)
                    break
            number += 1

    with opened(recipe(server)) as storage:
        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(KILLS):
                before = len(acknowledged)
                wait(lambda before=before: len(acknowledged) > before + 50)
                server.kill()
                failed = len(errors)
                wait(lambda failed=failed: len(errors) > failed)
                server.start()
            before = len(acknowledged)
            wait(lambda: len(acknowledged) > before + 50)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        found = {one.key for one in storage.records(Query(), payload=False)}
    unknown = sum(isinstance(error, OutcomeUnknownError) for error in errors)
    print(
        f"{KILLS} kills, {len(acknowledged)} acknowledged, {len(errors)} errors, {unknown} of them of unknown outcome"
    )
    assert {type(error) for error in errors} <= {UnreachableError, OutcomeUnknownError}
    assert found >= set(acknowledged)


def test_a_restart_that_nobody_noticed_costs_nothing(server: Server) -> None:
    with opened(recipe(server)) as storage:
        storage.store("f", "t", "1", 1)
        for number in range(3):
            server.kill()
            server.start()
            # The dead connection is seen before anything is sent: not even a write fails.
            assert storage.put(record(Key("f", "t", str(number)), number), if_revision=None).revision
            assert storage.retrieve("f", "t", str(number)) == number


def test_connects_when_the_server_is_there_again(server: Server) -> None:
    with opened(recipe(server)) as storage:
        storage.store("f", "t", "1", 1)
        server.kill()
        # The process at the other end of this connection may outlive its server for a moment.
        with pytest.raises(UnreachableError):
            storage.store("f", "t", "1", 1)
        for _ in range(3):
            with pytest.raises(UnreachableError, match="can't be reached") as caught:
                storage.store("f", "t", "1", 2)
            assert not isinstance(caught.value, OutcomeUnknownError)
        server.start()
        assert storage.retrieve("f", "t", "1") == 1
