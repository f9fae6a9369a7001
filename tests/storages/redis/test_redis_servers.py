"""Servers that are away or slow, that restart, that evict or keep nothing, that are full or follow another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import OutcomeUnknownError, UnreachableError, UnsupportedError
from flowstore.record import Key, Query, Record
from flowstore.storages import RedisStorage
from tests.servers import met
from tests.servers import redis as servers
from tests.servers.proxy import Proxy, proxy
from tests.storages.redis.redis_kit import at, check_indexes, need_program
from tests.storages.storage_kit import record

pytest_plugins = ("tests.storages.redis.redis_fixtures",)

KEY = Key("flow", "task", "1")


# Away and slow


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


def test_a_server_that_does_not_answer_in_time(middle: Proxy) -> None:
    storage = at(middle, timeout=0.3)
    storage.connect()
    middle.flowing.clear()
    with pytest.raises(OutcomeUnknownError, match=r"[Tt]imeout"):
        storage.store("flow", "task", "1", "x")
    middle.flowing.set()
    assert storage.retrieve("flow", "task", "1") == "x"
    storage.disconnect()


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
