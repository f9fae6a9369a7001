"""Answers that are lost, calls that are interrupted, and the connections of threads and child processes."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import ConflictError, OutcomeUnknownError, UnreachableError
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storages import RedisStorage
from tests.servers import redis as servers
from tests.servers.proxy import Proxy
from tests.storages.redis.redis_kit import at, opened
from tests.storages.storage_kit import in_child, record, store_while_reconnecting, used_by_threads, wait_for

pytest_plugins = ("tests.storages.redis.redis_fixtures",)

KEY = Key("flow", "task", "1")


@pytest.fixture
def behind(middle: Proxy) -> Iterator[RedisStorage]:
    with opened(middle, timeout=20) as storage:
        yield storage


# Lost answers


def lose_the_answer(middle: Proxy, storage: RedisStorage, one: Record, if_revision: int) -> None:
    storage.count(Query())  # connects again where the last answer was lost
    middle.lose_answers = True
    with pytest.raises(OutcomeUnknownError):
        storage.put(one, if_revision=if_revision)
    middle.lose_answers = False


def test_a_lost_answer_gives_no_false_conflict(middle: Proxy, behind: RedisStorage) -> None:
    conflicts = 0
    for number in range(120):
        key = Key("flow", "task", str(number))
        if_revision = 0
        for turn in range(2):
            one = record(key, [number, turn])
            lose_the_answer(middle, behind, one, if_revision)
            try:
                assert behind.put(one, if_revision=if_revision) == behind.get(key)
            except ConflictError:
                conflicts += 1
            assert behind.retrieve("flow", "task", str(number)) == [number, turn]
            assert behind.get(key).revision == (if_revision + 1 if turn else behind.get(key).revision)
            if_revision = behind.get(key).revision
    print(f"{middle.lost} answers lost, {conflicts} false conflicts")
    assert (middle.lost, conflicts) == (240, 0)


def test_without_a_token_a_lost_answer_would_be_a_conflict(middle: Proxy, behind: RedisStorage) -> None:
    one = Record(Ref(RESULT, KEY), b"1", {})
    lose_the_answer(middle, behind, one, 0)
    with pytest.raises(ConflictError):
        behind.put(one, if_revision=0)


def test_a_lost_answer_to_a_batch_or_a_deletion_is_unknown_too(middle: Proxy, behind: RedisStorage) -> None:
    records = [record(Key("f", "t", str(number)), number) for number in range(100)]
    behind.put_many(records)
    assert not behind.delete(KEY)  # so that the server knows the script, and does not ask for it first
    for change in (
        lambda: behind.put_many(records),
        lambda: behind.delete(records[0].key),
        lambda: behind.delete_many([one.ref for one in records]),
    ):
        behind.get(records[-1].key)
        middle.lose_answers = True
        with pytest.raises(OutcomeUnknownError):
            change()
        middle.lose_answers = False
    assert behind.count(Query()) == 0


def test_a_lost_answer_to_a_reader_is_unreachable(middle: Proxy, behind: RedisStorage) -> None:
    behind.store("flow", "task", "1", "x")
    middle.lose_answers = True
    for read in (lambda: behind.get(KEY), lambda: behind.get_many([Ref(RESULT, KEY)]), lambda: behind.scan(Query())):
        with pytest.raises(UnreachableError) as caught:
            read()
        assert type(caught.value) is UnreachableError
    middle.lose_answers = False
    assert behind.retrieve("flow", "task", "1") == "x"


def test_a_connection_that_ended_meanwhile_is_replaced_before_anything_is_sent(
    middle: Proxy, behind: RedisStorage
) -> None:
    behind.store("flow", "task", "1", "first")
    first = behind.get(KEY).revision
    for number in range(50):
        middle.cut()
        servers.wait_until(lambda: _has_ended(behind), "the end of the connection arrives")
        behind.store("flow", "task", "1", number)
    assert behind.get(KEY).revision == first + 50


def _has_ended(storage: RedisStorage) -> bool:
    [idle] = storage._connection()._local.idle.values()
    return all(held.poll(0) for held in idle)


# Interrupted calls


class Interrupted(Exception):
    pass


def test_an_interrupted_call_leaves_no_answer_for_the_next(middle: Proxy, behind: RedisStorage) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    for number in range(3):
        behind.store("flow", "task", str(number), number)
    handler = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for number in range(30):
            middle.held.clear()
            middle.flowing.clear()
            killer = threading.Thread(target=_interrupt_when, args=(middle.held,))
            killer.start()
            with pytest.raises(Interrupted):
                behind._get(Ref(RESULT, Key("flow", "task", str(number % 3))), True)
            killer.join()
            middle.flowing.set()
            other = (number + 1) % 3
            found = behind._get(Ref(RESULT, Key("flow", "task", str(other))), True)
            assert found is not None
            assert pipeline.decode(found) == other
    finally:
        signal.signal(signal.SIGUSR1, handler)


def _interrupt_when(event: threading.Event) -> None:
    event.wait(60)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def test_a_signal_handler_may_use_the_storage(middle: Proxy, behind: RedisStorage) -> None:
    behind.store("flow", "task", "1", "outer")
    seen: list[Any] = []

    def handle(*_: object) -> None:
        middle.flowing.set()
        behind.store("flow", "task", "2", "inner")
        seen.append(behind.retrieve("flow", "task", "2"))

    handler = signal.signal(signal.SIGUSR1, handle)
    try:
        middle.flowing.clear()
        killer = threading.Thread(target=_interrupt_when, args=(middle.held,))
        killer.start()
        assert behind.retrieve("flow", "task", "1") == "outer"
        killer.join()
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert seen == ["inner"]


# Threads and child processes


def test_threads_get_their_own_answers(storage: RedisStorage) -> None:
    operations, crossed = 300, []

    def work(worker: int) -> None:
        for number in range(operations):
            ref = Ref(RESULT, Key(f"flow{worker}", "task", str(number % 7)))
            storage.put(Record(ref, b"%d" % worker, {"content_type": None}))
            one = storage._get(ref, True)
            many = storage._get_many([ref, ref])
            if any(found is None or found.ref != ref or found.payload != b"%d" % worker for found in (one, *many)):
                crossed.append(worker)

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(work, worker) for worker in range(16)]:
            done.result()
    print(f"{16 * operations * 3} calls, {len(crossed)} crossed answers")
    assert crossed == []


def test_threads_that_end_leave_no_connections(server: servers.Server, storage: RedisStorage) -> None:
    with server.client(client_name="watcher") as client:
        before = len(client.client_list())
        for number in range(30):
            thread = threading.Thread(target=storage.store, args=("f", "t", str(number), number))
            thread.start()
            thread.join()
        gc.collect()
        servers.wait_until(lambda: len(client.client_list()) == before, "the connections of ended threads end")


def test_disconnect_closes_the_connections_of_all_threads(server: servers.Server) -> None:
    storage = at(server)
    storage.connect()
    with server.client() as client:
        before = len(client.client_list())
        with used_by_threads(storage):
            assert len(client.client_list()) == before + 3
            storage.disconnect()
            servers.wait_until(lambda: len(client.client_list()) == before - 1, "all connections end")
            storage.connect()
    storage.disconnect()


def test_disconnect_lets_running_calls_finish(storage: RedisStorage) -> None:
    counts, lost = store_while_reconnecting(storage, times=50, stores=1)
    assert lost == []
    for worker, count in enumerate(counts):
        assert storage.count(Query(task_name=str(worker))) == count


def test_a_child_leaves_inherited_connections_alone(server: servers.Server, storage: RedisStorage) -> None:
    storage.store("flow", "task", "1", 1)
    with server.client() as client:
        mine = {one["addr"] for one in client.client_list()}

        def work() -> None:
            assert storage.retrieve("flow", "task", "1") == 1
            storage.disconnect()
            storage.disconnect()

        for _ in range(5):
            wait_for(in_child(work))
        assert mine <= {one["addr"] for one in client.client_list()}
    assert storage.retrieve("flow", "task", "1") == 1


def test_a_child_and_its_parent_use_the_storage_at_once(storage: RedisStorage) -> None:
    def work(name: str) -> None:
        for number in range(300):
            storage.store(name, "task", str(number), [name, number])
            assert storage.retrieve(name, "task", str(number)) == [name, number]

    storage.store("flow", "task", "1", "before")
    child = in_child(lambda: work("child"))
    work("parent")
    wait_for(child)
    assert storage.count(Query()) == 601


def test_loads_the_driver_when_it_connects(tmp_path: Path) -> None:
    import subprocess

    script = (
        "import sys; from flowstore.storages import RedisStorage\n"
        "s = RedisStorage(url='redis://u:p@127.0.0.1:1/0'); print('redis' in sys.modules, s.is_connected())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
