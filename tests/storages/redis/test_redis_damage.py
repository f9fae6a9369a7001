"""Foreign and damaged data, values that are too large, users without rights, and passwords that stay secret."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import CorruptError, NotFoundError, SerializationError, StorageError, UnreachableError
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storages import RedisStorage
from tests.servers import redis as servers
from tests.servers.process import free_port
from tests.storages.redis.redis_kit import at, check_indexes, fresh_prefix, need_program
from tests.storages.storage_kit import record

pytest_plugins = ("tests.storages.redis.redis_fixtures",)

CANARY = "hunter2-canary"
KEY = Key("flow", "task", "1")


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
        with pytest.raises(CorruptError, match="holds other data"):
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
    page = storage.scan(Query())
    if (field, damage) == ("payload", "broken"):
        with pytest.raises(CorruptError):
            [pipeline.decode(one) for one in page.records]
    else:
        assert (page.records, len(page.damaged)) == ([], 1)


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


# Limits


def test_refuses_a_value_that_redis_can_not_keep(server: servers.Server, storage: RedisStorage) -> None:
    storage.store("flow", "task", "1", "old")
    with server.client() as client:
        before = client.info("stats")["total_net_input_bytes"]
        # A payload of that size is kept in pieces; headers are never that large.
        with pytest.raises(SerializationError, match="the maximum is"):
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


# Users without rights


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


def test_a_user_without_the_right_keys_or_commands() -> None:
    need_program()
    settings = {**servers.SAFE, "user weak on >weak ~other:* +@all": "-evalsha -eval"}
    with servers.running(settings) as server:
        storage = at(server, username="weak", password="weak")
        storage.connect()
        for call in (lambda: storage.store("f", "t", "1", 1), lambda: storage.get(KEY)):
            with pytest.raises(UnreachableError, match="does not allow"):
                call()
        storage.disconnect()


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
