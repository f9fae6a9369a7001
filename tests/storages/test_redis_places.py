"""Redis behind Sentinels, in a cluster, behind a socket and TLS, and next to others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from flowstore import pipeline
from flowstore.errors import ConfigurationError, NotFoundError, StorageError, UnreachableError
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storages import RedisStorage
from tests.servers import met
from tests.servers import redis as servers
from tests.servers.process import free_port
from tests.servers.proxy import proxy
from tests.storages.redis_kit import check_indexes, fresh_prefix, need_program
from tests.storages.storage_kit import record


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    need_program()
    with servers.running() as server:
        yield server


def connected(**configuration: Any) -> RedisStorage:
    storage = RedisStorage(**configuration)
    storage.connect()
    return storage


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"charset": "latin-1"}, "charset"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a{b}"}, "prefix"),
        ({"prefix": "a\n"}, "prefix"),
        ({"timeout": 0}, "timeout"),
        ({"connect_timeout": float("nan")}, "connect_timeout"),
        ({"db": -1}, "db"),
        ({"unsafe_settings": "x"}, "unsafe_settings"),
        ({"ssl_cert_reqs": "x"}, "ssl_cert_reqs"),
    ],
)
def test_refuses_other_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisStorage(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "http://u:hunter2@h/0"}, "'http' is not supported"),
        ({"url": "redis://u:hunter2@h:99999/0"}, "port"),
        ({"url": "redis://u:hunter2@h/mine"}, "number of a database"),
        ({"url": "redis://u:hunter2@h/0", "host": "other"}, "url and host and port name different places"),
        ({"url": "redis://u:hunter2@h/0", "unix_socket_path": "/x"}, "different places"),
        ({"url": "unix:///x", "cluster": True}, "cluster"),
        ({"sentinels": ["h"]}, "service_name"),
        ({"service_name": "mine"}, "sentinels"),
        ({"sentinels": ["u:hunter2@h"], "service_name": "mine"}, "host:port"),
        ({"sentinels": ["h:x"], "service_name": "mine"}, "host:port"),
        ({"sentinels": ["h"], "service_name": "mine", "cluster": True}, "cluster"),
        ({"cluster": True, "db": 1}, "prefix instead of db"),
    ],
)
def test_refuses_contradictions(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        RedisStorage(**arguments)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("option", ["decode_responses=true", "protocol=3", "retry_on_timeout=yes", "parser_class=x"])
def test_a_url_carries_no_options_of_the_driver(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
        RedisStorage(url=f"redis://127.0.0.1/0?{option}").connect()


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8"])
def test_takes_the_charset_that_it_has(charset: str) -> None:
    RedisStorage("localhost", 6379, 0, None, None, charset)


# One server


def test_databases_and_prefixes_are_apart(server: servers.Server) -> None:
    prefix = fresh_prefix()
    storages = [
        connected(port=server.port, db=db, prefix=name) for db in (0, 1, 2) for name in (prefix, f"{prefix}:x", "other")
    ]
    with server.client() as client:
        client.set("somebody", "else's")
    for number, storage in enumerate(storages):
        storage.put(record(Key("f", "t", "1"), number, run_id="r"))
        storage.put(record(Key("f", "t", str(number)), number, run_id="r"))
    for number, storage in enumerate(storages):
        expected = 1 if number == 1 else 2
        assert storage.retrieve("f", "t", "1") == number
        assert storage.count(Query(run_id="r")) == expected
    for storage in storages[1:]:
        storage.delete_many([one.ref for one in storage.records(Query())])
        assert storage.count(Query()) == 0
    assert storages[0].count(Query()) == 2
    with server.client() as client:
        assert client.get("somebody") == b"else's"
    for storage in storages:
        storage.disconnect()


def test_connecting_creates_nothing(server: servers.Server) -> None:
    prefix = fresh_prefix()
    storage = connected(port=server.port, prefix=prefix)
    with pytest.raises(NotFoundError):
        storage.retrieve("f", "t", "1")
    assert list(storage.records(Query())) == []
    with server.client() as client:
        assert client.keys(f"{prefix}*") == []
    storage.disconnect()


def test_people_can_read_a_record(server: servers.Server) -> None:
    prefix = fresh_prefix()
    storage = connected(port=server.port, prefix=prefix)
    storage.store("flow", "täsk", "1", {"price": 42})
    with server.client() as client:
        [key] = client.keys(f"{prefix}:*:record:*")
        fields = client.hgetall(key)
    assert key.decode().endswith(f":record:{Ref(RESULT, Key('flow', 'täsk', '1')).address.hex()}")
    assert fields[b"ref"] == '["result","flow","täsk","1",""]'.encode()
    assert (fields[b"payload"], fields[b"revision"]) == (b'{"price":42}', b"1")
    storage.disconnect()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(run_id="r"), "run:r"),
        (Query(flow_name="f", task_name="t", task_id="1"), "task:1"),
        (Query(kinds=("run",), flow_name="f"), "flow:3:run:f"),
        (Query(kinds=("error",), descending=True), "kind:error"),
        (Query(flow_name="f"), "flow:6:result:f"),
    ],
)
def test_selects_by_index(server: servers.Server, query: Query, index: str) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    with server.client(decode_responses=True) as client:
        client.config_resetstat()
        with client.monitor() as monitor:
            storage.scan(query)
            client.echo("done")
            seen = []
            for said in monitor.listen():
                if said["command"].startswith("ECHO"):
                    break
                seen.append(said["command"])
    assert any(f"}}:{index} " in command for command in seen), seen
    assert not any(command.startswith(("KEYS", "SCAN")) for command in seen), seen
    storage.disconnect()


def test_a_call_is_one_round_trip(server: servers.Server) -> None:
    refs = [Ref(RESULT, Key("f", "t", str(number))) for number in range(300)]
    records = [record(ref.key, "x") for ref in refs]
    with proxy(server.port) as middle:
        storage = connected(host="127.0.0.1", port=middle.port, prefix=fresh_prefix())
        storage.store("f", "t", "1", 1)
        storage.delete(refs[1].key)  # now the server knows the scripts
        middle.patience = 0.2
        for call in (
            lambda: storage.store("f", "t", "1", 1),
            lambda: storage.put(record(refs[2].key, "x"), if_revision=0),
            lambda: storage.get(refs[1].key),
            lambda: storage.get(refs[1].key, payload=False),
            lambda: storage.get_many(refs),
            lambda: storage.put_many(records),
        ):
            before = middle.round_trips
            call()
            assert middle.round_trips == before + 1
        # Deleting takes one more: to look for what is kept apart.
        deletes: list[Callable[[], object]] = [
            lambda: storage.delete(refs[1].key),
            lambda: storage.delete_many(refs),
        ]
        for delete in deletes:
            before = middle.round_trips
            delete()
            assert middle.round_trips == before + 2
        storage.disconnect()


def test_a_listing_of_many_pages_is_in_order(server: servers.Server) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    keys = [Key("f", "t", str(number)) for number in range(3000)]
    storage.put_many([record(key, "x", run_id="r", state="A" if int(key.task_id) % 10 else "B") for key in keys])
    for query in (Query(), Query(run_id="r"), Query(flow_name="f"), Query(kinds=(RESULT,), flow_name="f")):
        assert storage.count(query) == 3000
        assert [one.key for one in storage.records(query, payload=False)] == keys
    found, cursor = [], None
    while True:
        page = storage.scan(Query(states=("B",), descending=True), limit=7, cursor=cursor)
        found += page.records
        cursor = page.cursor
        if cursor is None:
            break
    assert [one.key for one in found] == [key for key in reversed(keys) if int(key.task_id) % 10 == 0]
    assert all(pipeline.decode(one) == "x" for one in found)
    tasks = tuple(str(number) for number in range(0, 3000, 100))
    assert [one.key.task_id for one in storage.records(Query(task_ids=tasks))] == list(tasks)
    storage.disconnect()


def test_counts_and_lists_what_has_expired(server: servers.Server) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    now = storage.now()
    for number in range(60):
        expires_at = {0: now - 10, 1: now + 3600, 2: None}[number % 3]
        facts: dict[str, Any] = {} if expires_at is None else {"expires_at": expires_at}
        storage.put(record(Key("f", "t", str(number)), number, run_id="r", **facts))
    for query in (Query(), Query(run_id="r"), Query(kinds=(RESULT,), flow_name="f")):
        assert storage.count(query) == 40
    expired = [one.ref for one in storage.records(Query(expired_at=now))]
    assert [ref.key.task_id for ref in expired] == [str(number) for number in range(0, 60, 3)]
    assert storage.delete_many(expired) == 20
    assert storage.scan(Query(expired_at=now)).records == []
    assert storage.count(Query()) == 40
    with server.client() as client:
        assert check_indexes(client, storage._options.prefix) == 40
        assert all(client.ttl(key) == -1 for key in client.keys(f"{storage._options.prefix}:*"))
    storage.disconnect()


def test_the_order_survives_a_server_s_clock_that_was_put_back(server: servers.Server) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    keys = [Key("f", "t", str(number)) for number in range(50)]
    with server.client() as client:
        for key in keys[:25]:
            storage.put(record(key, "x"))
        # As if what is there had been stored when the clock was decades ahead of what it is now.
        client.set(f"{storage._options.prefix}:{{0}}:number", 4_000_000_000_000_000)
        for key in keys[25:]:
            storage.put(record(key, "x"))
        numbers = [
            number
            for index in client.scan_iter(f"{storage._options.prefix}:*:kind:*")
            for _, number in client.zrange(index, 0, -1, withscores=True)
        ]
    assert sum(number > 4_000_000_000_000_000 for number in numbers) == 25
    assert [one.key for one in storage.records(Query())] == keys
    storage.disconnect()


def test_time_is_the_server_s(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    monkeypatch.setattr("time.time", lambda: 0.0)  # a client whose clock is wrong
    with server.client() as client:
        seconds, microseconds = client.time()
    assert abs(storage.now() - (seconds + microseconds / 1e6)) < 5
    storage.disconnect()


def test_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    need_program()
    path = tmp_path_factory.mktemp("s") / "s"
    with servers.running({**servers.SAFE, "unixsocket": str(path)}) as server:
        by_path = connected(unix_socket_path=str(path), db=3)
        by_url = connected(url=f"unix://{path}?db=3")
        by_path.store("f", "t", "1", 1)
        assert by_url.retrieve("f", "t", "1") == 1
        server.kill()
        with pytest.raises(UnreachableError, match=str(path)):
            by_url.retrieve("f", "t", "1")
        by_path.disconnect()
        by_url.disconnect()


def test_tls(tmp_path: Path) -> None:
    need_program()
    tried = subprocess.run([servers.PROGRAM or "", "--tls-port", "x"], capture_output=True, text=True)
    if "Bad directive" in tried.stderr + tried.stdout:
        met.skip("RedisStorage", "no Redis with TLS: the server's program was built without it")
    certificate(tmp_path)
    port = free_port()
    settings = {
        **servers.SAFE,
        "tls-port": str(port),
        "tls-cert-file": str(tmp_path / "cert"),
        "tls-key-file": str(tmp_path / "key"),
        "tls-ca-cert-file": str(tmp_path / "cert"),
        "tls-auth-clients": "optional",
    }
    with servers.running(settings):
        trusted = {"ssl_ca_certs": str(tmp_path / "cert")}
        storage = connected(host="127.0.0.1", port=port, ssl=True, **trusted)
        by_url = connected(url=f"rediss://127.0.0.1:{port}/0", **trusted)
        for number in range(20):
            storage.store("f", "t", str(number), "x" * 100_000)
            assert by_url.retrieve("f", "t", str(number)) == "x" * 100_000
        [held] = storage._connected()._all  # one: held, and not made anew for each call
        assert "SSL" in type(held.connection._sock).__name__
        with pytest.raises(UnreachableError, match=r"(?i)certificate"):
            connected(host="127.0.0.1", port=port, ssl=True)
        unchecked = connected(host="127.0.0.1", port=port, ssl=True, ssl_cert_reqs="none")
        for one in (storage, by_url, unchecked):
            one.disconnect()


def certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "cert")),
        ],
        check=True,
        capture_output=True,
    )


# Sentinels


@pytest.mark.parametrize("sentinels", [1, 3])
def test_follows_a_failover(sentinels: int) -> None:
    need_program()
    with servers.watched(sentinels) as (primary, replica, watchers):
        storage = connected(
            sentinels=[f"127.0.0.1:{watcher.port}" for watcher in watchers],
            service_name="mine",
            prefix=fresh_prefix(),
            timeout=2,
        )
        storage.store("flow", "task", "1", "before")
        with replica.client() as client:
            servers.wait_until(lambda: client.dbsize() >= 5, "the replica has it")
        primary.kill()
        errors = []

        def stores() -> bool:
            try:
                storage.store("flow", "task", "2", "after")
            except UnreachableError as exc:
                errors.append(exc)
                return False
            return True

        servers.wait_until(stores, "the storage goes on")
        assert errors
        assert [storage.retrieve("flow", "task", task_id) for task_id in ("1", "2")] == ["before", "after"]
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"
        storage.disconnect()


def test_says_which_service_no_sentinel_knows() -> None:
    need_program()
    with servers.watched() as (_, _, [watcher]), pytest.raises(UnreachableError, match="'other'"):
        connected(sentinels=[f"127.0.0.1:{watcher.port}"], service_name="other")


# Clusters


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[servers.Server]]:
    need_program()
    with servers.cluster() as nodes:
        yield nodes


def test_a_cluster_spreads_the_records(cluster: list[servers.Server]) -> None:
    prefix = fresh_prefix()
    storage = connected(port=cluster[0].port, cluster=True, prefix=prefix)
    keys = [Key("f", "t", str(number)) for number in range(300)]
    for key in keys:
        storage.put(record(key, "x", run_id="r"))
    held = []
    for node in cluster:
        with node.client() as client:
            held.append(check_indexes(client, prefix))
    print(f"records by server: {held}")
    assert sum(held) == 300
    assert min(held) > 0
    assert len(storage.servers) == 3
    assert [one.key for one in storage.records(Query(run_id="r"))] == keys
    assert len(storage.put_many([record(key, "y") for key in keys])) == 300
    assert storage.delete_many([Ref(RESULT, key) for key in keys]) == 300
    storage.disconnect()


def test_says_that_a_server_belongs_to_a_cluster(cluster: list[servers.Server]) -> None:
    storage = RedisStorage(port=cluster[0].port)
    storage.connect()
    with pytest.raises(ConfigurationError, match="cluster: true"):
        storage.get_many([Ref(RESULT, Key("f", "t", str(number))) for number in range(50)])
    storage.disconnect()


def test_says_that_a_server_belongs_to_no_cluster(server: servers.Server) -> None:
    with pytest.raises(UnreachableError, match=r"(?i)cluster"):
        connected(port=server.port, cluster=True)


def test_goes_on_while_slots_move(cluster: list[servers.Server]) -> None:
    storage = connected(port=cluster[0].port, cluster=True, prefix=fresh_prefix())
    keys = [Key("f", "t", str(number)) for number in range(100)]
    records = [record(key, "x", run_id="r") for key in keys]
    storage.put_many(records[:50])
    slot = key_slot(b"{0}")
    owner = next(node for node in cluster if _owns(node, slot))
    target = next(node for node in cluster if node is not owner)
    with owner.client() as old, target.client() as new:
        old_id, new_id = (client.execute_command("CLUSTER", "MYID").decode() for client in (old, new))
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
        while names := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
        # The keys are at the new place, but to those who ask at the old one it is told key by key.
        assert {one.key for one in storage.records(Query(run_id="r"))} == set(keys[:50])
        assert storage.get(keys[0]).revision == 1
        assert [one.revision for one in storage.put_many(records[:50])] == [2] * 50
        stored = [tries_to_store(storage, one) for one in records[50:]]
        assert False in stored
        assert storage.count(Query(run_id="r")) == 50 + sum(stored)
        for node in cluster:
            with node.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
    storage.put_many(records)
    assert {one.key for one in storage.records(Query(run_id="r"))} == set(keys)
    for one in records:
        revision = storage.get(one.key).revision
        assert storage.put(one, if_revision=revision).revision == revision + 1
    with target.client() as new, owner.client() as old:
        assert check_indexes(new, storage._options.prefix) > 0
        assert old.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
    assert storage.delete_many([one.ref for one in records]) == 100
    storage.disconnect()


def tries_to_store(storage: RedisStorage, one: Record) -> bool:
    """Store a record, if the cluster lets it; a script with keys that do not exist yet has to wait for the move."""
    try:
        storage.put(one)
    except UnreachableError:
        return False
    return True


def _owns(node: servers.Server, slot: int) -> bool:
    with node.client() as client:
        return any(
            first <= slot <= last and port == node.port
            for first, last, [_, port, *_], *_ in client.execute_command("CLUSTER", "SLOTS", NEVER_DECODE=True)
        )


def test_a_cluster_s_lost_server_is_unreachable_and_comes_back() -> None:
    need_program()
    with servers.cluster(appendfsync="always") as nodes:
        storage = connected(port=nodes[0].port, cluster=True, timeout=2)
        keys = [Key("f", "t", str(number)) for number in range(60)]
        for key in keys:
            storage.put(record(key, "x"))
        nodes[2].kill()
        reached, unreached = 0, 0
        for key in keys:
            try:
                storage.get(key)
                reached += 1
            except UnreachableError:
                unreached += 1
        assert unreached > 0
        nodes[2].start()

        def all_there() -> bool:
            try:
                return sum(1 for _ in storage.records(Query())) == 60
            except StorageError:
                return False

        servers.wait_until(all_there, "the server is back")
        storage.put_many([record(key, "y") for key in keys])
        storage.disconnect()


def test_data_can_move_to_a_cluster_and_back(server: servers.Server, cluster: list[servers.Server]) -> None:
    prefix = fresh_prefix()
    single = connected(port=server.port, prefix=prefix)
    keys = [Key("f", "t", str(number)) for number in range(100)]
    single.put_many([record(key, "x", run_id="r") for key in keys])
    many = connected(port=cluster[0].port, cluster=True, prefix=prefix)
    with server.client() as client:
        for name in client.keys(f"{prefix}:*"):
            node = next(node for node in cluster if _owns(node, key_slot(name)))
            with node.client() as there:
                there.restore(name, 0, client.dump(name))
            client.delete(name)
    later = Key("f", "t", "later")
    many.put(record(later, "x", run_id="r"))
    assert [one.key for one in many.records(Query(run_id="r"))] == [*keys, later]
    for node in cluster:
        with node.client() as client, server.client() as back:
            for name in client.keys(f"{prefix}:*"):
                back.restore(name, 0, client.dump(name))
                client.delete(name)
    last = Key("f", "t", "last")
    single.put(record(last, "x", run_id="r"))
    assert [one.key for one in single.records(Query(run_id="r"))] == [*keys, later, last]
    single.disconnect()
    many.disconnect()
