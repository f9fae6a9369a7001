from __future__ import annotations

import gc
import logging
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flowstore import pipeline
from flowstore.errors import (
    ConflictError,
    CorruptError,
    NotFoundError,
    OutcomeUnknownError,
    StorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storages import RedisStorage
from tests.servers import met
from tests.servers import redis as servers
from tests.servers.process import free_port
from tests.servers.proxy import Proxy, proxy
from tests.storages.redis_kit import check_indexes, fresh_prefix, need_program
from tests.storages.storage_kit import in_child, record, wait_for

CANARY = "hunter2-canary"
KEY = Key("flow", "task", "1")


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    need_program()
    with servers.running() as server:
        yield server


@pytest.fixture
def middle(server: servers.Server) -> Iterator[Proxy]:
    with proxy(server.port) as one:
        yield one


def at(server: servers.Server | Proxy, **configuration: Any) -> RedisStorage:
    configuration = {"prefix": fresh_prefix(), **configuration}
    return RedisStorage("127.0.0.1", server.port, **configuration)


@pytest.fixture
def storage(server: servers.Server) -> Iterator[RedisStorage]:
    storage = at(server)
    storage.connect()
    yield storage
    storage.disconnect()


@pytest.fixture
def behind(middle: Proxy) -> Iterator[RedisStorage]:
    storage = at(middle, timeout=20)
    storage.connect()
    yield storage
    storage.disconnect()


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
        for if_revision in (0, 1):
            one = record(key, [number, if_revision])
            lose_the_answer(middle, behind, one, if_revision)
            try:
                assert behind.put(one, if_revision=if_revision).revision == if_revision + 1
            except ConflictError:
                conflicts += 1
            assert behind.retrieve("flow", "task", str(number)) == [number, if_revision]
            assert behind.get(key).revision == if_revision + 1
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


def test_what_could_not_be_sent_is_not_unknown(server: servers.Server) -> None:
    with proxy(server.port) as middle:
        storage = at(middle)
        storage.connect()
        storage.store("flow", "task", "1", "x")
    for _ in range(2):  # first the held connection has ended, then none can be made
        with pytest.raises(UnreachableError, match="can't connect") as caught:
            storage.store("flow", "task", "1", "y")
        assert type(caught.value) is UnreachableError
    storage.disconnect()


def test_a_connection_that_ended_meanwhile_is_replaced_before_anything_is_sent(
    middle: Proxy, behind: RedisStorage
) -> None:
    for number in range(50):
        middle.cut()
        servers.wait_until(lambda: _has_ended(behind), "the end of the connection arrives")
        behind.store("flow", "task", "1", number)
    assert behind.get(KEY).revision == 50


def _has_ended(storage: RedisStorage) -> bool:
    [idle] = storage._connected()._local.idle.values()
    return all(held.poll(0) for held in idle)


def test_a_server_that_does_not_answer_in_time(middle: Proxy) -> None:
    storage = at(middle, timeout=0.3)
    storage.connect()
    middle.flowing.clear()
    with pytest.raises(OutcomeUnknownError, match=r"[Tt]imeout"):
        storage.store("flow", "task", "1", "x")
    middle.flowing.set()
    assert storage.retrieve("flow", "task", "1") == "x"
    storage.disconnect()


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
    stored, go_on = threading.Barrier(4), threading.Event()
    problems: list[BaseException] = []

    def work(number: int) -> None:
        storage.store("f", "t", str(number), number)
        stored.wait(60)
        go_on.wait(60)
        try:
            assert storage.retrieve("f", "t", str(number)) == number
        except BaseException as exc:
            problems.append(exc)

    with server.client() as client:
        before = len(client.client_list())
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        stored.wait(60)
        assert len(client.client_list()) == before + 3
        storage.disconnect()
        servers.wait_until(lambda: len(client.client_list()) == before - 1, "all connections end")
        storage.connect()
        go_on.set()
        for thread in threads:
            thread.join()
    storage.disconnect()
    assert problems == []


def test_disconnect_lets_running_calls_finish(storage: RedisStorage) -> None:
    stop = threading.Event()
    lost: list[object] = []

    def work(worker: int) -> int:
        stored = 0
        while not stop.is_set():
            try:
                storage.store("f", str(worker), str(stored), "x" * 50_000)
                stored += 1
            except StorageError as exc:
                if "connected" not in str(exc):
                    lost.append(exc)
        return stored

    with ThreadPoolExecutor(4) as pool:
        stored = [pool.submit(work, worker) for worker in range(4)]
        for _ in range(50):
            storage.disconnect()
            storage.connect()
            storage.store("f", "here", "1", 1)
        stop.set()
        counts = [one.result() for one in stored]
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


# Restarts


def test_what_was_acknowledged_survives_the_death_of_the_server() -> None:
    need_program()
    with servers.running({"appendonly": "yes", "appendfsync": "always", "save": '""'}) as server:
        storage = at(server)
        storage.connect()
        assert storage.warnings == ()
        stop = threading.Event()
        problems: list[BaseException] = []
        acknowledged: list[list[str]] = [[] for _ in range(4)]

        def work(worker: int) -> None:
            number = 0
            while not stop.is_set():
                one = record(Key("flow", "task", f"{worker}.{number}"), number, run_id="r")
                try:
                    storage.put(one)
                    acknowledged[worker].append(one.key.task_id)
                    number += 1
                except UnreachableError:
                    stop.wait(0.01)
                except BaseException as exc:
                    problems.append(exc)
                    return

        with ThreadPoolExecutor(4) as pool:
            for worker in range(4):
                pool.submit(work, worker)
            for _ in range(5):
                before = sum(map(len, acknowledged))
                servers.wait_until(
                    lambda before=before: sum(map(len, acknowledged)) > before + 100,  # type: ignore[misc]
                    "writers go on",
                )
                server.kill()
                server.start()
            stop.set()
        assert problems == []
        wanted = {task_id for mine in acknowledged for task_id in mine}
        found = {one.key.task_id for one in storage.records(Query(run_id="r"))}
        print(f"5 kills, {len(wanted)} acknowledged, {len(wanted - found)} lost")
        assert wanted <= found
        with server.client() as client:
            assert check_indexes(client, storage._options.prefix) == len(found)
        storage.disconnect()


def test_goes_on_after_a_restart_that_forgot_the_scripts(server: servers.Server, storage: RedisStorage) -> None:
    records = [record(Key("f", "t", str(number)), number) for number in range(1200)]
    with server.client() as client:
        for change in (
            lambda: storage.put_many(records),
            lambda: storage.put(records[0]),
            lambda: storage.delete(records[0].key),
            lambda: storage.delete_many([one.ref for one in records]),
        ):
            client.script_flush()
            change()
    assert storage.count(Query()) == 0


def test_a_server_that_is_still_loading_is_unreachable() -> None:
    need_program()
    if int(servers.program_version()[1].partition(".")[0]) < 7:
        met.skip("RedisStorage", "no Redis that answers while it loads as often as asked: that takes version 7")
    with servers.running({**servers.SAFE, "enable-debug-command": "local", "key-load-delay": "0"}) as server:
        storage = at(server)
        storage.connect()
        storage.put_many([record(Key("f", "t", str(number)), number) for number in range(100)])
        with server.client() as client:
            client.config_set("key-load-delay", 20_000)
            client.config_set("loading-process-events-interval-bytes", 1024)
            loading = threading.Thread(target=_reload, args=(server,))
            loading.start()
            servers.wait_until(lambda: _is_loading(client), "the server loads")
            for call in (lambda: storage.store("f", "t", "new", 1), lambda: storage.retrieve("f", "t", "1")):
                with pytest.raises(UnreachableError, match=r"(?i)loading") as caught:
                    call()
                assert type(caught.value) is UnreachableError
            client.config_set("key-load-delay", 0)
            loading.join()
        assert storage.retrieve("f", "t", "1") == 1
        storage.disconnect()


def _reload(server: servers.Server) -> None:
    with server.client() as client:
        client.execute_command("DEBUG", "RELOAD")


def _is_loading(client: Any) -> bool:
    return bool(client.info("persistence")["loading"])


# Settings


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_sees_a_server_that_evicts(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    need_program()
    with servers.running({**servers.SAFE, "maxmemory": "50mb", "maxmemory-policy": policy}) as server:
        storage = at(server)
        storage.connect()
        [warning] = storage.warnings
        assert policy in warning
        assert warning in caplog.text
        storage.disconnect()
        with pytest.raises(UnsupportedError, match=policy):
            at(server, unsafe_settings="refuse").connect()
        caplog.clear()
        silent = at(server, unsafe_settings="ignore")
        silent.connect()
        assert (silent.warnings, caplog.text) == (storage.warnings, "")
        silent.disconnect()


def test_sees_a_server_that_keeps_nothing() -> None:
    need_program()
    with servers.running({"save": '""', "appendonly": "no"}) as server:
        refused = at(server, unsafe_settings="refuse")
        with pytest.raises(UnsupportedError, match="a restart loses everything"):
            refused.connect()
        assert not refused.is_connected()
        with server.client() as client:
            client.config_set("save", "3600 1")
            refused.connect()
            refused.disconnect()
            client.config_set("save", "")
            client.config_set("appendonly", "yes")
            refused.connect()
        assert refused.warnings == ()
        refused.disconnect()


def test_finds_nothing_unsafe_in_a_safe_server(storage: RedisStorage, caplog: pytest.LogCaptureFixture) -> None:
    assert storage.warnings == ()
    [facts] = storage.servers.values()
    assert facts["maxmemory_policy"] == "noeviction"
    assert (facts["appendonly"], facts["appendfsync"]) == ("yes", "everysec")
    assert caplog.text == ""


@pytest.mark.parametrize("rules", ["-config", "-config -info"])
def test_does_without_what_it_may_not_ask(rules: str) -> None:
    need_program()
    settings = {"save": '""', "appendonly": "no", f"user limited on >{CANARY} ~* +@all": rules}
    with servers.running(settings) as server:
        storage = at(server, username="limited", password=CANARY, unsafe_settings="refuse")
        storage.connect()
        [facts] = storage.servers.values()
        assert facts["save"] == "unknown"
        storage.store("f", "t", "1", 1)
        assert storage.retrieve("f", "t", "1") == 1
        storage.disconnect()


def test_a_full_server_refuses_and_drops_nothing() -> None:
    need_program()
    settings = {**servers.SAFE, "maxmemory": "6mb", "maxmemory-policy": "volatile-lru"}
    with servers.running(settings) as server:
        storage = at(server)
        storage.connect()
        assert storage.warnings == ()
        stored: list[Record] = []

        def fill() -> None:
            for number in range(10_000):
                key = Key("f", "t", str(number))
                stored.append(storage.put(record(key, "x" * 10_000, expires_at=storage.now() + 3600)))

        with pytest.raises(UnreachableError, match="maxmemory") as caught:
            fill()
        assert type(caught.value) is UnreachableError
        assert [one.ref for one in storage.records(Query(), payload=False)] == [one.ref for one in stored]
        assert storage.delete_many([one.ref for one in stored]) == len(stored)
        storage.store("f", "t", "1", "there is room again")
        storage.disconnect()


def test_a_replica_is_no_place_to_write(server: servers.Server) -> None:
    with servers.running({**servers.SAFE, "replicaof": f"127.0.0.1 {server.port}"}) as replica:
        storage = at(replica)
        storage.connect()
        primary = at(server, prefix=storage._options.prefix)
        primary.connect()
        primary.put(record(KEY, "x"))
        primary.disconnect()
        servers.wait_until(lambda: storage.count(Query()), "the replica follows")
        assert pipeline.decode(storage.get(KEY)) == "x"
        for change in (lambda: storage.store("f", "t", "1", 1), lambda: storage.delete(KEY)):
            with pytest.raises(UnreachableError, match="replica") as caught:
                change()
            assert type(caught.value) is UnreachableError
        storage.disconnect()


# Secrets


def everything_said(exc: BaseException, caplog: pytest.LogCaptureFixture, storage: RedisStorage) -> str:
    shown = "".join(traceback.format_exception(exc))
    return "\n".join([shown, repr(exc), caplog.text, repr(storage), repr(storage._options), repr(storage.servers)])


@pytest.mark.parametrize("way", ["arguments", "url"])
@pytest.mark.parametrize("mistake", ["password", "port", "user"])
def test_no_password_is_shown(way: str, mistake: str, caplog: pytest.LogCaptureFixture) -> None:
    need_program()
    caplog.set_level(logging.DEBUG)
    settings = {**servers.SAFE, f"user good on >{CANARY} ~*": "+@all", "user weak on >weak ~other:* +@all": "-config"}
    with servers.running({**settings, "requirepass": CANARY}, password=CANARY) as server:
        user, password, port = "good", f"{CANARY}-wrong" if mistake == "password" else CANARY, server.port
        if mistake == "port":
            port = free_port()
        if mistake == "user":
            user, password = "nobody", CANARY
        if way == "url":
            storage = RedisStorage(url=f"redis://{user}:{password}@127.0.0.1:{port}/0")
        else:
            storage = RedisStorage("127.0.0.1", port, username=user, password=password)
        with pytest.raises(UnreachableError) as caught:
            storage.connect()
        said = everything_said(caught.value, caplog, storage)
        assert CANARY not in said
        assert str(port) in said
        pickle.loads(pickle.dumps(caught.value))
        good = RedisStorage("127.0.0.1", server.port, username="good", password=CANARY)
        good.connect()
        good.store("f", "t", "1", 1)
        server.kill()
        with pytest.raises(UnreachableError) as caught:
            good.store("f", "t", "1", 1)
        assert CANARY not in everything_said(caught.value, caplog, good)
        good.disconnect()


def test_a_user_without_the_right_keys_or_commands() -> None:
    need_program()
    settings = {**servers.SAFE, "user weak on >weak ~other:* +@all": "-evalsha -eval"}
    with servers.running(settings) as server:
        storage = at(server, username="weak", password="weak")
        storage.connect()
        for call in (lambda: storage.store("f", "t", "1", 1), lambda: storage.get(KEY)):
            with pytest.raises(UnreachableError, match="permit"):
                call()
        storage.disconnect()


# What is not flowstore's


def planted(server: servers.Server, storage: RedisStorage, suffix: str) -> str:
    with server.client(decode_responses=True) as client:
        [key] = [key for key in client.keys(f"{storage._options.prefix}:*") if suffix in key]
        client.delete(key)
        client.set(key, "somebody else's")
        return str(key)


@pytest.mark.parametrize("suffix", [":record:", ":kind:", ":task:"])
def test_a_foreign_key_is_corrupt_and_stays(server: servers.Server, storage: RedisStorage, suffix: str) -> None:
    storage.store("flow", "task", "1", "x")
    key = planted(server, storage, suffix)
    calls: list[Callable[[], object]] = [lambda: storage.delete(KEY)]
    calls += [lambda: storage.get(KEY), lambda: storage.store("flow", "task", "1", 1)] if "record" in suffix else []
    if "kind" in suffix:
        calls.append(lambda: storage.scan(Query()))
        calls.append(lambda: storage.count(Query()))
    for call in calls:
        with pytest.raises(CorruptError, match="not flowstore's"):
            call()
    with server.client(decode_responses=True) as client:
        assert client.get(key) == "somebody else's"


@pytest.mark.parametrize("field", ["ref", "headers", "payload", "revision"])
@pytest.mark.parametrize("damage", ["lost", "broken"])
def test_a_damaged_record_is_corrupt(server: servers.Server, storage: RedisStorage, field: str, damage: str) -> None:
    storage.store("flow", "task", "1", "x")
    with server.client() as client:
        [key] = client.keys(f"{storage._options.prefix}:*:record:*")
        if damage == "lost":
            client.hdel(key, field)
        else:
            client.hset(key, field, b"\xff{")
    with pytest.raises(CorruptError):
        storage.retrieve("flow", "task", "1")
    with pytest.raises(CorruptError):
        [pipeline.decode(one) for one in storage.records(Query())]


def test_a_record_at_the_wrong_address_is_corrupt(server: servers.Server, storage: RedisStorage) -> None:
    storage.store("flow", "task", "1", "mine")
    with server.client() as client:
        [key] = client.keys(f"{storage._options.prefix}:*:record:*")
        client.hset(key, "ref", b'["result","flow","task","2",""]')
    with pytest.raises(CorruptError, match="answered with"):
        storage.retrieve("flow", "task", "1")


def test_entries_of_records_that_somebody_deleted_are_passed_over(
    server: servers.Server, storage: RedisStorage
) -> None:
    records = [record(Key("f", "t", str(number)), number, run_id="r") for number in range(50)]
    storage.put_many(records)
    with server.client() as client:
        for key in client.keys(f"{storage._options.prefix}:*:record:*")[::2]:
            client.delete(key)
        for query in (Query(run_id="r"), Query(flow_name="f", kinds=(RESULT,)), Query(), Query(kinds=(RESULT,))):
            assert len(list(storage.records(query))) == 25
        for number in range(50):
            list(storage.records(Query(task_id=str(number))))
        assert check_indexes(client, storage._options.prefix) == 25
        storage.put_many(records)
        assert check_indexes(client, storage._options.prefix) == 50


def test_a_reader_without_the_right_to_write_still_lists() -> None:
    need_program()
    settings = {**servers.SAFE, "user reader on >weak ~* +@all": "-@write -evalsha -eval"}
    with servers.running(settings) as server:
        prefix = fresh_prefix()
        writer = at(server, prefix=prefix)
        writer.connect()
        writer.put_many([record(Key("f", "t", str(number)), number) for number in range(10)])
        with server.client() as client:
            client.delete(client.keys(f"{prefix}:*:record:*")[0])
        reader = at(server, prefix=prefix, username="reader", password="weak")
        reader.connect()
        assert len(list(reader.records(Query()))) == 9
        writer.disconnect()
        reader.disconnect()


# Limits


def test_refuses_a_value_that_redis_can_not_keep(server: servers.Server, storage: RedisStorage) -> None:
    storage.store("flow", "task", "1", "old")
    with server.client() as client:
        before = client.info("stats")["total_net_input_bytes"]
        # A payload of that size is kept in pieces; headers can't be.
        with pytest.raises(StorageError, match="at most 536870912"):
            storage.put(Record(Ref(RESULT, KEY), b"", {"note": "x" * (512 * 1024 * 1024)}))
        assert client.info("stats")["total_net_input_bytes"] - before < 10_000
    assert storage.retrieve("flow", "task", "1") == "old"


def test_a_payload_that_the_server_refuses_is_unknown_or_unreachable(server: servers.Server) -> None:
    with servers.running({**servers.SAFE, "proto-max-bulk-len": "1mb"}) as small:
        storage = at(small)
        storage.connect()
        with pytest.raises(StorageError):
            storage.store("flow", "task", "1", "x" * 3_000_000)
        with pytest.raises(NotFoundError):
            storage.get(KEY)
        storage.disconnect()


def test_loads_the_driver_when_it_connects(tmp_path: Path) -> None:
    import subprocess

    script = (
        "import sys; from flowstore.storages import RedisStorage\n"
        "s = RedisStorage(url='redis://u:p@127.0.0.1:1/0'); print('redis' in sys.modules, s.is_connected())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
