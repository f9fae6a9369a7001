"""What is meant for the code that called flowstore reaches it unchanged, wherever it strikes, and nobody else."""

from __future__ import annotations

import copy
import importlib
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowstore import FlowStore, StorageError
from flowstore.config import adapters
from flowstore.interrupts import is_interrupt, let_through
from tests.struck import Full, Plain, Struck


class SoftLimit(Exception):
    """As a library raises it out of a timer: registered."""


class OutOfASignal(Exception):
    """Of a program's own handler of signals, of which nobody is told."""


class Timeout(BaseException):
    """As those of gevent and eventlet."""


let_through(SoftLimit)

INTERRUPTS: list[type[BaseException]] = [SoftLimit, Timeout, KeyboardInterrupt, SystemExit]


class Painful:
    """A value whose own methods take their time."""

    def __getstate__(self) -> object:
        Struck.here("pickling")
        return {"here": 1}

    def __setstate__(self, state: object) -> None:
        Struck.here("unpickling")

    def __deepcopy__(self, memo: object) -> Painful:
        Struck.here("copying")
        return self


@contextmanager
def opened(classname: str, **more: Any) -> Iterator[FlowStore]:
    entry = {"name": "S", "classname": classname, "import": __name__, "on_store_error": {"retry": 5}}
    yield FlowStore({"storages": [entry | more], "global": {"default_storage": "S"}})


def use(store: FlowStore) -> None:
    store._preload()
    store.store("f", "t", "1", 1)
    assert store.retrieve("f", "t", "1") == 1
    store.store_error(None, "f", "t", "2", ValueError("no"))
    if store._configuration.storages["S"].classname == "Full":
        assert list(store.variables("f")) == []
        store.retrieve_many([("f", "t", "1")])
    store.close()


def struck(method: str, kind: type[BaseException], call: Callable[[], object]) -> None:
    Struck.method, Struck.error = method, kind("stop")
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert Struck.error is None


@pytest.mark.parametrize("kind", INTERRUPTS)
@pytest.mark.parametrize(
    ("classname", "method"),
    [
        *(("Plain", name) for name in ("__init__", "preload", "connect", "describe", "is_connected")),
        *(("Plain", name) for name in ("retrieve", "store", "store_error", "disconnect")),
        *(("Full", name) for name in ("connect", "retrieve", "store", "scan")),
    ],
)
def test_an_interrupt_reaches_the_caller_and_the_next_call_works(
    classname: str, method: str, kind: type[BaseException]
) -> None:
    with opened(classname) as store:
        struck(method, kind, lambda: use(store))
        use(store)


@pytest.mark.parametrize("kind", INTERRUPTS)
@pytest.mark.parametrize("where", ["pickling", "unpickling"])
def test_an_interrupt_of_a_values_own_methods_is_no_damage(where: str, kind: type[BaseException]) -> None:
    def use() -> None:
        store.store("f", "t", "1", Painful())
        assert isinstance(store.retrieve("f", "t", "1"), Painful)

    with opened("Full", serializer="pickle") as store:
        struck(where, kind, use)
        use()


@pytest.mark.parametrize("kind", INTERRUPTS)
def test_an_interrupt_while_a_cache_copies_is_not_swallowed(kind: type[BaseException]) -> None:
    with opened("Plain", cache={"classname": "LRU", "size": 9}) as store:
        store.store("f", "t", "1", Painful())
        struck("copying", kind, lambda: store.retrieve("f", "t", "1"))
        assert copy.deepcopy(store.retrieve("f", "t", "1"))


@pytest.mark.parametrize("kind", [kind for kind in INTERRUPTS if kind is not SystemExit])  # which a module may raise
def test_an_interrupt_of_an_import_is_no_mistake(kind: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    Struck.method, Struck.error = "import", kind("stop")
    mine = types.ModuleType("struck_module")
    mine.__getattr__ = lambda name: Struck.here("import")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "struck_module", mine)
    with pytest.raises(kind):
        FlowStore({"storages": [{"name": "S", "classname": "Plain", "import": "struck_module"}]})


def test_a_class_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("Full") as store:
        monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"{name} is imported again"))
        use(store)
        store.store_many([(("f", "t", "1"), 1)])
        store.cleanup()
        assert adapters.adapter_class(store._configuration.storages["S"]) is Full


@pytest.fixture
def alarmed() -> Iterator[None]:
    def handler(*_: Any) -> None:
        raise OutOfASignal("the time is up")

    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class Slow(Plain):
    def connect(self) -> None:
        time.sleep(60)

    def is_connected(self) -> bool:
        return False


class SlowToStore(Plain):
    def store(self, *_: Any) -> None:
        time.sleep(60)


class Away(Plain):
    def connect(self) -> None:
        raise ConnectionRefusedError("nobody is listening")


@pytest.mark.parametrize("classname", ["Slow", "SlowToStore", "Away"])
@pytest.mark.usefixtures("alarmed")
def test_what_a_handler_of_a_signal_raises_needs_no_registration(classname: str) -> None:
    # Away: it strikes in one of the pauses between the tries.
    with opened(classname) as store:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(OutOfASignal):
            store.store("f", "t", "1", 1)


def test_an_ordinary_error_is_no_interrupt() -> None:
    with pytest.raises(OutOfASignal) as caught:
        raise OutOfASignal("raised by the program itself")
    assert not is_interrupt(caught.value)
    with opened("Plain") as store:
        Struck.method, Struck.error = "store", OutOfASignal("no")
        with pytest.raises(StorageError, match="storage 'S' failed: OutOfASignal: no"):
            store.store("f", "t", "1", 1)


class Gated(Plain):
    """Of those who connect, the first is interrupted while the others wait."""

    gate = threading.Event()
    connects = 0
    error: type[BaseException] = KeyboardInterrupt

    def connect(self) -> None:
        Gated.connects += 1
        if Gated.connects == 1:
            assert Gated.gate.wait(60)
            raise Gated.error("stop")
        super().connect()


@pytest.mark.parametrize("kind", INTERRUPTS)
def test_an_interrupted_connect_is_nobody_elses(kind: type[BaseException]) -> None:
    Gated.gate, Gated.connects, Gated.error = threading.Event(), 0, kind
    outcomes: list[object] = []

    def ask(store: FlowStore) -> None:
        try:
            outcomes.append(type(store.storage("S")).__name__)
        except BaseException as exc:
            outcomes.append(type(exc))

    with opened("Gated") as store:
        threads = [threading.Thread(target=ask, args=(store,)) for _ in range(8)]
        threads[0].start()
        while not Gated.connects:
            time.sleep(0.001)
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.2)
        Gated.gate.set()
        for thread in threads:
            thread.join()
        assert sorted(map(str, outcomes)) == sorted([str(kind), *["Gated"] * 7])
        assert Gated.connects == 2
