"""One instance per storage and process, connected by the first use, in threads and across forks."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowstore import FlowStore, UnknownStorageError, UnreachableError
from flowstore.storages import SqlStorage

HERE = "tests.store.own_adapters"


@contextmanager
def opened(classname: str = "PlainStorage", **configuration: Any) -> Iterator[FlowStore]:
    store = FlowStore(
        {
            "storages": [{"name": "S", "classname": classname, "import": HERE, "configuration": configuration}],
            "global": {"default_storage": "S"},
        }
    )
    yield store
    store.close()


def in_threads(number: int, call: Callable[[], Any]) -> list[Any]:
    """Call in that many threads at the same moment; return what they returned or raised."""
    outcomes: list[Any] = []
    start = threading.Barrier(number)

    def run() -> None:
        start.wait()
        try:
            outcomes.append(call())
        except Exception as exc:
            outcomes.append(exc)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def in_child(check: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # what hangs counts as failed
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def held(store: FlowStore) -> Any:
    """Return the adapter without connecting it."""
    storage: Any = store.storage("S")
    storage.disconnect()
    storage.connects = storage.disconnects = 0
    return storage


def test_nothing_connects_before_the_first_use() -> None:
    with opened() as store:
        assert store._registry._instances == {}
        storage: Any = store.storage("S")
        assert (storage.connects, storage.is_connected()) == (1, True)


def test_callers_get_the_adapter_itself_and_always_the_same() -> None:
    with opened() as store:
        storage: Any = store.storage("S")
        assert type(storage).__name__ == "PlainStorage"
        assert storage.own_method() == "own"
        assert store.storage("S") is storage
        assert store.task_storage("any flow", "any task") is storage


def test_32_threads_cause_one_connect() -> None:
    with opened() as store:
        storage = held(store)
        storage.gate.clear()
        opener = threading.Timer(0.2, storage.gate.set)
        opener.start()
        assert in_threads(32, lambda: store.storage("S")) == [storage] * 32
        assert storage.connects == 1
        opener.join()


def test_32_threads_share_one_failure_and_the_next_use_tries_again() -> None:
    with opened() as store:
        storage = held(store)
        storage.failing = 1
        storage.gate.clear()

        def open_when_all_wait() -> None:
            while not store._registry._connecting:
                time.sleep(0.001)
            time.sleep(0.2)
            storage.gate.set()

        opener = threading.Thread(target=open_when_all_wait)
        opener.start()
        outcomes = in_threads(32, lambda: store.storage("S"))
        opener.join()
        failed = [outcome for outcome in outcomes if isinstance(outcome, UnreachableError)]
        assert failed
        assert all(error.storage == "S" for error in failed)
        assert "ConnectionRefusedError: nobody is listening" in str(failed[0])
        # Whoever came after the failure has connected it; nobody else.
        assert storage.connects == (1 if len(failed) == 32 else 2)
        assert store.storage("S") is storage


def test_a_storage_that_lost_its_connection_is_connected_again() -> None:
    with opened() as store:
        storage: Any = store.storage("S")
        storage.pid = None
        again: Any = store.storage("S")
        assert again is storage
        assert again.connects == 2


def test_connecting_one_storage_keeps_nobody_from_another() -> None:
    entry = {"classname": "PlainStorage", "import": HERE}
    store = FlowStore({"storages": [{"name": "Slow", **entry}, {"name": "Quick", **entry}]})
    slow: Any = store.storage("Slow")
    slow.pid = None
    slow.gate.clear()
    waiting = threading.Thread(target=store.storage, args=("Slow",))
    waiting.start()
    assert store.storage("Quick").is_connected()
    slow.gate.set()
    waiting.join()
    store.close()


def test_an_unknown_name_lists_the_known() -> None:
    with opened() as store, pytest.raises(UnknownStorageError, match=r"'T'.*S"):
        store.storage("T")


def test_one_thread_at_a_time_is_let_into_an_adapter_that_says_nothing() -> None:
    with opened() as store:
        in_threads(16, lambda: store.store("f", "t", threading.current_thread().name, 1))
        storage: Any = store.storage("S")
        assert (storage.most_inside, len(storage.values)) == (1, 16)


def test_threads_are_let_into_an_adapter_that_is_thread_safe() -> None:
    with opened("ThreadSafeStorage") as store:
        storage: Any = store.storage("S")
        assert "store" not in vars(storage)


def test_close_disconnects_and_the_next_use_connects_again() -> None:
    with opened() as store:
        storage: Any = store.storage("S")
        store.close()
        store.close()
        assert (storage.disconnects, storage.is_connected()) == (1, False)
        again: Any = store.storage("S")
        assert again is storage
        assert again.connects == 2


def test_a_storage_that_cannot_be_disconnected_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with opened("StubbornStorage") as store:
        store.storage("S")
        with caplog.at_level(logging.ERROR):
            store.close()
        assert "can't disconnect storage 'S'" in caplog.text


def test_a_child_process_starts_with_an_instance_of_its_own() -> None:
    with opened() as store:
        parents: Any = store.storage("S")

        def check() -> bool:
            storage: Any = store.storage("S")
            store.close()
            return storage is not parents and storage.connects == 1 and parents.disconnects == 0

        assert in_child(check)
        assert parents.is_connected()


def test_a_fork_while_another_thread_connects_does_not_hang_the_child() -> None:
    with opened() as store:
        storage = held(store)
        storage.gate.clear()
        connecting = threading.Thread(target=store.storage, args=("S",))
        connecting.start()
        while not storage.connects:
            time.sleep(0.001)
        with store._registry._lock:
            assert in_child(lambda: store.storage("S").is_connected())
        storage.gate.set()
        connecting.join()


def test_a_sqlite_connection_is_not_used_in_a_child(tmp_path: Path) -> None:
    store = FlowStore(
        {
            "storages": [{"name": "SqlStorage", "configuration": {"connection_string": f"sqlite:///{tmp_path}/r.db"}}],
            "global": {"default_storage": "SqlStorage"},
        }
    )
    store.store("f", "t", "parent", 1)
    parents = store.storage("SqlStorage")

    def check() -> bool:
        store.store("f", "t", "child", 2)
        return store.storage("SqlStorage") is not parents and store.retrieve("f", "t", "parent") == 1

    for _ in range(5):
        assert in_child(check)
    assert isinstance(parents, SqlStorage)
    assert store.retrieve("f", "t", "child") == 2
    store.close()


def test_storages_are_disconnected_when_the_process_ends() -> None:
    program = (
        "from flowstore import FlowStore\n"
        "from tests.store.own_adapters import PlainStorage\n"
        "PlainStorage.disconnect = lambda self: print('disconnected')\n"
        f"store = FlowStore({{'storages': [{{'name': 'S', 'classname': 'PlainStorage', 'import': {HERE!r}}}]}})\n"
        "store.storage('S')\n"
    )
    root = str(Path(__file__).parents[2])
    found = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("disconnected\n", "")


def test_nothing_happens_when_a_store_is_collected() -> None:
    store = FlowStore({"storages": [{"name": "S", "classname": "PlainStorage", "import": HERE}]})
    storage: Any = store.storage("S")
    del store
    gc.collect()
    assert storage.disconnects == 0


def test_a_store_waits_for_a_storage_that_cannot_be_connected_at_first() -> None:
    with opened(failing=2) as store:
        store.store("f", "t", "1", "value")
        storage: Any = store.storage("S")
        assert storage.connects == 3
        assert store.retrieve("f", "t", "1") == "value"
