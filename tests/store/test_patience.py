"""Trying again while a storage can't be reached: for a time, shared by all tries, in all calls that may be repeated."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowstore import ConflictError, FlowStore, OutcomeUnknownError, UnreachableError
from flowstore.config import loading
from flowstore.store.operations import Operations
from flowstore.store.patience import LONGEST_PAUSE, Patience, limited
from flowstore.store.registry import Registry
from tests.store.own_adapters import AwayStorage

KEY = ("f", "t", "1")


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        patched.setattr(time, "monotonic", lambda: self.now)
        patched.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def failing(self, takes: float = 0.0, until: float = float("inf")) -> Callable[[], str]:
        """Return what fails, after that many seconds each time, until so many seconds have passed."""
        back = self.now + until

        def operation() -> str:
            if self.now >= back:
                return "back"
            self.now += takes
            raise UnreachableError("away")

        return operation


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@contextmanager
def opened(policy: Any = "retry", **more: Any) -> Iterator[FlowStore]:
    entry = {"name": "S", "classname": "AwayStorage", "import": AwayStorage.__module__, "on_store_error": policy}
    store = FlowStore({"storages": [entry | more], "global": {"default_storage": "S"}})
    yield store
    store.close()


def call(patience: Patience | float, operation: Callable[[], Any]) -> Any:
    """Run an operation on a storage that is there, with the given patience."""
    entry = {"name": "S", "classname": "AwayStorage", "import": AwayStorage.__module__}
    configuration = loading.load({"storages": [entry]})
    if not isinstance(patience, Patience):
        patience = Patience("S", patience)
    operations = Operations(Registry(configuration))
    return operations.run(configuration.storages["S"], lambda _: operation(), patience)


@pytest.mark.parametrize("away", [0.5, 2.0, 10.0, 29.0])
def test_an_outage_within_the_patience_is_survived(clock: Clock, away: float) -> None:
    assert call(30, clock.failing(until=away)) == "back"


@pytest.mark.parametrize("seconds", [1, 30, 120])
def test_it_gives_up_when_the_time_is_up_and_not_before(clock: Clock, seconds: float) -> None:
    with pytest.raises(UnreachableError):
        call(seconds, clock.failing())
    assert clock.now == pytest.approx(1000 + seconds)


def test_the_pauses_grow_until_they_take_seconds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: most)
    with pytest.raises(UnreachableError):
        call(60, clock.failing())
    growing = [pause for pause in clock.pauses[:-1] if pause < LONGEST_PAUSE]
    assert growing == sorted(growing)
    assert clock.pauses.count(LONGEST_PAUSE) > 10
    assert LONGEST_PAUSE >= 2


def test_the_pauses_are_random(clock: Clock) -> None:
    with pytest.raises(UnreachableError):
        call(60, clock.failing())
    assert len(set(clock.pauses)) == len(clock.pauses)


@pytest.mark.parametrize("timeout", [1.0, 10.0, 29.0, 30.0, 45.0, 300.0])
def test_no_call_takes_longer_than_the_patience_and_one_timeout(clock: Clock, timeout: float) -> None:
    with pytest.raises(UnreachableError):
        call(30, clock.failing(takes=timeout))
    assert clock.now - 1000 <= 30 + timeout + 1


def test_a_timeout_as_long_as_the_patience_is_followed_by_another_try(clock: Clock) -> None:
    # A firewall that drops a connection silently: a new one would do.
    assert call(30, clock.failing(takes=30.01, until=30)) == "back"


def test_several_operations_share_one_time(clock: Clock) -> None:
    patience = Patience("S", 30)
    assert call(patience, clock.failing(until=25)) == "back"
    clock.now += 3600  # what lies between is the caller's own affair
    begun = clock.now
    with pytest.raises(UnreachableError):
        call(patience, clock.failing())
    assert clock.now - begun <= 30 - 25


def test_without_patience_there_is_one_try(clock: Clock) -> None:
    with pytest.raises(UnreachableError):
        call(0, clock.failing())
    assert (clock.now, clock.pauses) == (1000, [])


def test_a_callers_deadline_ends_it_earlier_and_never_later(clock: Clock) -> None:
    with limited(1005.0), limited(9000.0), limited(None), pytest.raises(UnreachableError):
        call(30, clock.failing())
    assert clock.now == pytest.approx(1005)
    with limited(1004.0), pytest.raises(UnreachableError):
        call(30, clock.failing())
    assert clock.now == pytest.approx(1005)
    with limited(9000.0), pytest.raises(UnreachableError):
        call(30, clock.failing())
    assert clock.now == pytest.approx(1035)


def test_what_is_no_outage_is_not_tried_again(clock: Clock) -> None:
    for error in (ConflictError("no"), ValueError("no"), KeyboardInterrupt()):
        tries: list[int] = []

        def operation(error: BaseException = error, tries: list[int] = tries) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise UnreachableError("away")
            raise error

        with pytest.raises(type(error)):
            call(30, operation)
        assert len(tries) == 2


READS: dict[str, Callable[[FlowStore], Any]] = {
    "retrieve": lambda store: store.retrieve(*KEY),
    "retrieve_many": lambda store: store.retrieve_many([KEY]),
    "retrieve_error": lambda store: store.retrieve_error("f", "t", "bad").failure.message,
    "errors": lambda store: len(store.errors("f", "t", "bad")),
    "get_or_store": lambda store: store.get_or_store(*KEY, 2),
    "reference": lambda store: store.load(store.reference(*KEY)),
    "blob": lambda store: store.retrieve_blob(*KEY, "b").read(),
    "blobs": lambda store: store.blobs(*KEY),
    "variable": lambda store: store.variables("f")["v"],
    "variable by get": lambda store: store.variables("f").get("v"),
    "variable in": lambda store: "v" in store.variables("f"),
    "revision": lambda store: store.variables("f").revision("v"),
    "variables": lambda store: dict(store.variables("f").items()),
    "number of variables": lambda store: len(store.variables("f")),
    "get_or_set": lambda store: store.variables("f").get_or_set("v", 2),
    "history": lambda store: [entry.event for entry in store.history("f")],
    "runs": lambda store: store.runs("f"),
    "run_records": lambda store: [record.ref.name for _, record in store._run_reader.records("r")],
}
WRITES: dict[str, Callable[[FlowStore], Any]] = {
    "store": lambda store: store.store("f", "t", "new", 1),
    "store_many": lambda store: store.store_many([(("f", "t", "new"), 1)]),
    "store_error": lambda store: store.store_error(None, "f", "t", "new", ValueError("no")),
    "blob": lambda store: store.store_blob("f", "t", "new", "b", io.BytesIO(b"1")),
    "set": lambda store: store.variables("f").set("new", 1),
    "update": lambda store: store.variables("f").update("v", lambda value: value + 1),
    "claim": lambda store: store.claim("f", "t", "new"),
    "record_history": lambda store: store.record_history("e", "f").event,
}


_REVISION = re.compile("[0-9]{16}")


def filled(store: FlowStore) -> AwayStorage:
    store.store(*KEY, 1)
    store.store_error(None, "f", "t", "bad", ValueError("no"))
    store.store_blob(*KEY, "b", b"1")
    store.variables("f").set("v", 1)
    store.variables("f", run_id="r").set("v", 1)
    store.record_history("e", "f")
    storage = store.storage("S")
    assert isinstance(storage, AwayStorage)
    return storage


@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *(f"{name} (w)" for name in WRITES)])
def test_a_call_survives_an_outage_at_any_of_its_steps(call: Callable[[FlowStore], Any]) -> None:
    with opened() as store:
        storage = filled(store)
        storage.steps = 0
        expected = _REVISION.sub("a revision", repr(call(store)))
        for step in range(storage.steps):
            with opened() as again:
                away = filled(again)
                away.begins, away.lasts = away.steps + step, 3
                result = _REVISION.sub("a revision", repr(call(again)))
                assert result == expected or "HistoryEntry" in result or "0x" in result
                assert away.lasts == 0, f"step {step} was not reached"


@pytest.mark.parametrize("policy", ["fail", "log"])
@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *(f"{name} (w)" for name in WRITES)])
def test_a_call_is_tried_once_where_the_policy_says_so(call: Callable[[FlowStore], Any], policy: str) -> None:
    with opened(policy) as store:
        storage = filled(store)
        storage.begins, storage.lasts = storage.steps, 1
        with pytest.raises(UnreachableError):
            call(store)
        assert storage.lasts == 0


def test_a_listing_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowstore.store.operations._PAGE", 10)
    with opened() as store:
        storage = filled(store)
        variables = store.variables("many")
        for number in range(35):
            variables[f"{number:02}"] = number
        names = []
        for name in variables:
            names.append(name)
            if len(names) in (5, 25):
                storage.begins, storage.lasts = storage.steps, 2
        assert names == [f"{number:02}" for number in range(35)]


def test_what_tells_what_was_deleted_is_not_done_twice() -> None:
    with opened() as store:
        storage = filled(store)
        calls: list[Callable[[], object]] = [
            lambda: store.cleanup(storage="S"),
            lambda: store.purge("S", "result"),
            lambda: store.delete_many([KEY]),
        ]
        for call in calls:
            storage.begins, storage.lasts = storage.steps, 1
            with pytest.raises(UnreachableError):
                call()
            assert storage.lasts == 0


def test_connecting_shares_the_time_with_the_rest(clock: Clock) -> None:
    with opened({"retry": 10}) as store:
        storage = filled(store)
        storage.disconnect()
        storage.down = True
        with pytest.raises(UnreachableError):
            store.retrieve(*KEY)
        assert clock.now == pytest.approx(1010)


def test_a_run_that_is_waited_for_with_a_timeout_waits_no_longer(clock: Clock) -> None:
    with opened() as store:
        run = store._begin_run("f", "r")
        store.storage("S").down = True  # type: ignore[attr-defined]
        with pytest.raises(UnreachableError):
            run.get(timeout=5)
        assert clock.now == pytest.approx(1005)
        with pytest.raises(UnreachableError):
            run.get()
        assert clock.now == pytest.approx(1035)


def test_an_outcome_that_is_not_known_is_found_out() -> None:
    with opened() as store:
        storage = filled(store)
        storage.begins, storage.lasts, storage.error = storage.steps + 1, 1, OutcomeUnknownError
        assert store.variables("f").update("v", lambda value: value + 1) == 2
        assert store.variables("f")["v"] == 2


def test_that_it_tries_again_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as store, caplog.at_level(logging.WARNING):
        storage = filled(store)
        storage.begins, storage.lasts = storage.steps, 4
        store.retrieve(*KEY)
        assert [record.getMessage() for record in caplog.records] == [
            "storage 'S': the line is cut; trying again for up to 30 s"
        ]


def test_the_environment_sets_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in (("2m", 120.0), ("1.5", 1.5)):
        monkeypatch.setitem(os.environ, "FLOWSTORE_STORAGES__S__ON_STORE_ERROR__RETRY", value)
        with opened() as store:
            assert store._configuration.storages["S"].patience == expected
        with opened({"retry": "1h"}) as store:
            assert store._configuration.storages["S"].patience == expected
