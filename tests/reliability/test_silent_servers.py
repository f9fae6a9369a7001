"""A server that falls silent: its connections stay open and nothing comes. No call waits longer than its timeout."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowstore import FlowStore, Key, UnreachableError
from flowstore.record import Query, Ref
from flowstore.storage import RecordStorage
from tests.reliability.figures import Figures
from tests.servers.proxy import Proxy, proxy
from tests.storages.places import SERVERS, configuration, recipe_of
from tests.storages.storage_kit import Recipe

pytest_plugins = ("tests.storages.every_storage",)
pytestmark = pytest.mark.each_time("postgres", "redis")

CLAIM = "silent servers: the longest wait of one call, beside its timeout"
TIMEOUT = float(os.environ.get("FLOWSTORE_TEST_SILENCE", "2"))
"""Seconds of ``timeout`` and ``connect_timeout``; a figure for the defaults is made with 30."""

FOR_EVER = 6 * TIMEOUT + 60
"""Seconds after which a call counts as one that waits without end."""

KEY = Key("f", "t", "1")
OPERATIONS: dict[str, Callable[[FlowStore], object]] = {
    "first connect": lambda store: store.storage("Results"),
    "store": lambda store: store.store("f", "t", "2", 2),
    "store_many": lambda store: store.store_many([(("f", "t", str(number)), number) for number in range(20)]),
    "large store": lambda store: store.store("f", "t", "2", "x" * 6_000_000),
    "retrieve": lambda store: store.retrieve("f", "t", "1"),
    "retrieve_many": lambda store: store.retrieve_many([("f", "t", "1"), ("f", "t", "2")], default=None),
    "listing": lambda store: [one.key for _, one in store._run_reader.records("r")],
    "count": lambda store: records(store).count(Query()),
    "condition": lambda store: store.variables("f").set("v", 1, if_revision=0),
    "delete": lambda store: store.delete("f", "t", "1"),
}


def records(store: FlowStore) -> RecordStorage:
    storage = store.storage("Results")
    assert isinstance(storage, RecordStorage)
    return storage


def behind(recipe: Recipe, line: Proxy, **more: Any) -> Recipe:
    """Return the recipe of the same place, reached over a proxy."""
    classname, arguments = recipe
    name = next(name for name in ("connection_string", "url", "uri", "endpoint_url") if name in arguments)
    address = re.sub(r"(127\.0\.0\.1|localhost):\d+", f"127.0.0.1:{line.port}", arguments[name])
    waits = "timeout" if classname in ("SqlStorage", "RedisStorage") else "read_timeout"
    return classname, {**arguments, name: address, waits: TIMEOUT, "connect_timeout": TIMEOUT, **more}


def port_of(recipe: Recipe) -> int:
    found = re.search(r"(?:127\.0\.0\.1|localhost):(\d+)", str(recipe[1]))
    assert found is not None
    return int(found[1])


def waited(call: Callable[[], object]) -> tuple[float, BaseException | None]:
    """Return how long a call took, and what it raised; a call that does not end fails."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:
            raised.append(exc)
        else:
            raised.append(None)

    begun = time.monotonic()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(FOR_EVER)
    took = time.monotonic() - begun
    assert raised, f"still waiting after {took:.0f} s; the timeout is {TIMEOUT} s"
    return took, raised[0]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", SERVERS)
def test_a_call_ends_though_the_server_says_nothing(
    kind: str, operation: str, request: pytest.FixtureRequest, tmp_path: Path, figures: Figures
) -> None:
    recipe = recipe_of(kind, request, tmp_path)
    with proxy(port_of(recipe)) as line:
        store = FlowStore(configuration(behind(recipe, line), on_store_error="fail"))

        def silenced() -> None:
            # In one thread, whose connection is in use when the server falls silent.
            if operation != "first connect":
                store.store("f", "t", "1", 1)
                store.variables("f", run_id="r").set("v", 1)
            line.flowing.clear()
            begun.append(time.monotonic())
            OPERATIONS[operation](store)

        begun: list[float] = []
        try:
            _, raised = waited(silenced)
            took = time.monotonic() - begun[0]
        finally:
            line.flowing.set()
            line.cut()
        figures.note(CLAIM, kind, operation=operation, timeout=TIMEOUT, waited=round(took, 1))
        assert isinstance(raised, UnreachableError), raised
        # Nothing is left over from that call: the next one works, with the answer that is its own.
        store.store("f", "t", "3", 3)
        assert store.retrieve("f", "t", "3") == 3
        store.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_all_tries_together_end_too(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, figures: Figures
) -> None:
    recipe = recipe_of(kind, request, tmp_path)
    patience = 2 * TIMEOUT
    with proxy(port_of(recipe)) as line:
        store = FlowStore(configuration(behind(recipe, line), on_store_error={"retry": patience}))
        store.store("f", "t", "1", 1)
        line.flowing.clear()
        try:
            took, raised = waited(lambda: store.store("f", "t", "2", 2))
        finally:
            line.flowing.set()
            line.cut()
        figures.note(
            CLAIM, kind, operation="store under retry", patience=patience, timeout=TIMEOUT, waited=round(took, 1)
        )
        assert isinstance(raised, UnreachableError), raised
        store.store("f", "t", "2", 2)
        assert records(store).get_many([Ref("result", Key("f", "t", "2"))])[0] is not None
        store.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_silence_within_the_patience_is_survived(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, figures: Figures
) -> None:
    recipe = recipe_of(kind, request, tmp_path)
    silence = 1.5 * TIMEOUT
    with proxy(port_of(recipe)) as line:
        store = FlowStore(configuration(behind(recipe, line), on_store_error={"retry": 20 * TIMEOUT}))
        store.store("f", "t", "1", 1)
        line.flowing.clear()
        ending = threading.Timer(silence, line.flowing.set)
        ending.start()
        try:
            store.store("f", "t", "2", 2)
            assert store.variables("f").update("v", lambda value: (value or 0) + 1) == 1
        finally:
            ending.join()
        assert (store.retrieve("f", "t", "2"), store.variables("f")["v"]) == (2, 1)
        store.close()
