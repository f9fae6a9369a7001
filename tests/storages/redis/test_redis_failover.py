"""A name that leads to another server, a server that is not the one to ask any more, and servers that fall silent."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from flowstore import FlowStore
from flowstore.errors import UnreachableError
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storages import RedisStorage
from tests.servers import redis as servers
from tests.servers.proxy import Proxy, proxy
from tests.storages.redis.redis_kit import at, connected, fresh_prefix, need_program
from tests.storages.storage_kit import PATIENCE, record, returns


class Name(Proxy):
    """A name in front of servers: new connections lead to another one when it has moved, old ones stay."""

    def move(self, server: servers.Server) -> None:
        self._target = ("127.0.0.1", server.port)


@contextmanager
def named(server: servers.Server) -> Iterator[Name]:
    name = Name(server.port)
    try:
        yield name
    finally:
        name.close()


@contextmanager
def pair() -> Iterator[tuple[servers.Server, servers.Server, Name]]:
    """Start a primary and its replica, and a name that leads to the primary."""
    need_program()
    at_once = {**servers.SAFE, "repl-diskless-sync-delay": "0"}
    with (
        servers.running(at_once) as former,
        servers.running({**at_once, "replicaof": f"127.0.0.1 {former.port}"}) as successor,
        named(former) as name,
    ):
        yield former, successor, name


def fail_over(former: servers.Server, successor: servers.Server, name: Name) -> None:
    """Make the replica a primary that has all, and the name lead to it."""
    with former.client() as client:
        servers.wait_until(lambda: client.execute_command("WAIT", 1, 0), "the replica has all")
    with successor.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    name.move(successor)


def becomes_replica(former: servers.Server, successor: servers.Server) -> None:
    with former.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", successor.port)


def becomes_replica_without_link(former: servers.Server, successor: servers.Server) -> None:
    with former.client() as client:
        client.config_set("replica-serve-stale-data", "no")
        client.execute_command("REPLICAOF", "127.0.0.1", 1)


def is_isolated(former: servers.Server, successor: servers.Server) -> None:
    with former.client() as client:
        client.config_set("min-replicas-to-write", 1)


def has_no_disk(former: servers.Server, successor: servers.Server) -> None:
    with former.client() as client:
        client.config_set("save", "3600 1")
        shutil.rmtree(former.folder)
        client.bgsave()
        servers.wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "saving fails")


def fresh(task: str = "t") -> list[Record]:
    """Return some records that nobody has stored."""
    return [record(Key("f", task, uuid.uuid4().hex), 2) for _ in range(50)]


def refs(storage: RedisStorage) -> list[Ref]:
    """Return what is stored of some task that is deleted in the test, and nothing of it is deleted twice."""
    return [one.ref for one in storage.records(Query(task_name="gone"), payload=False)][:10]


CHANGES: dict[str, Callable[[RedisStorage], object]] = {
    "put": lambda storage: storage.put(fresh()[0]),
    "put_many": lambda storage: storage.put_many(fresh()),
    "add_many": lambda storage: storage.add_many(fresh()),
    "delete": lambda storage: storage.delete(refs(storage)[0].key),
    "delete_many": lambda storage: storage.delete_many(refs(storage)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_failover_behind_one_name_the_second_call_works(change: str) -> None:
    check_failover(becomes_replica, CHANGES[change])


@pytest.mark.parametrize("happens", [becomes_replica_without_link, is_isolated, has_no_disk])
def test_a_server_that_can_t_write_any_more_is_looked_up_anew(
    happens: Callable[[servers.Server, servers.Server], None],
) -> None:
    check_failover(happens, CHANGES["put"])
    check_failover(happens, CHANGES["put_many"])


def check_failover(
    happens: Callable[[servers.Server, servers.Server], None], change: Callable[[RedisStorage], object]
) -> None:
    with pair() as (former, successor, name), ThreadPoolExecutor(1) as other:
        storage = at(name)
        storage.connect()
        storage.put_many([*fresh("gone"), *fresh("gone")])
        change(storage)
        other.submit(change, storage).result()
        fail_over(former, successor, name)
        happens(former, successor)
        with pytest.raises(UnreachableError) as caught:
            change(storage)
        assert type(caught.value) is UnreachableError  # nothing of it was done
        change(storage)
        # What one thread was told counts for all.
        other.submit(change, storage).result()
        storage.put(record(Key("f", "t", "last"), 3))
        with successor.client() as client:
            assert client.keys(f"{storage._options.prefix}:*record:*")
        storage.disconnect()


def test_a_reader_is_not_left_with_a_replica_that_has_lost_its_primary() -> None:
    with pair() as (former, successor, name):
        storage = at(name)
        storage.connect()
        assert storage.get_many([Ref(RESULT, Key("f", "t", "1"))]) == [None]
        fail_over(former, successor, name)
        becomes_replica_without_link(former, successor)
        with pytest.raises(UnreachableError, match="has lost its primary"):
            storage.get_many([Ref(RESULT, Key("f", "t", "1"))])
        assert storage.get_many([Ref(RESULT, Key("f", "t", "1"))]) == [None]
        storage.disconnect()


def test_with_the_policy_to_try_again_no_call_fails_in_a_failover() -> None:
    with pair() as (former, successor, name):
        configuration = {"host": "127.0.0.1", "port": name.port, "prefix": fresh_prefix()}
        entry = {"name": "S", "classname": "RedisStorage", "on_store_error": "retry", "configuration": configuration}
        store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
        store.store("f", "t", "1", 1)
        fail_over(former, successor, name)
        becomes_replica(former, successor)
        for number in range(3):
            store.store("f", "t", "1", number)
            assert store.retrieve("f", "t", "1") == number
        store.close()


def test_follows_a_failover_that_the_sentinels_are_told_to_make() -> None:
    need_program()
    with servers.watched() as (_, replica, [watcher]):
        storage = connected(sentinels=[f"127.0.0.1:{watcher.port}"], service_name="mine", prefix=fresh_prefix())
        storage.put_many([record(Key("f", "t", str(number)), 1) for number in range(50)])
        with watcher.client() as client:
            client.execute_command("SENTINEL", "FAILOVER", "mine")
        with replica.client() as client:
            servers.wait_until(lambda: client.info("replication")["role"] == "master", "the replica takes over")
        servers.wait_until(lambda: succeeds(lambda: CHANGES["put_many"](storage)), "the storage goes on")
        with replica.client() as client:
            assert client.keys(f"{storage._options.prefix}:*record:*")
        storage.disconnect()


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except UnreachableError:
        return False
    return True


# Clusters


def test_a_cluster_follows_its_replica() -> None:
    need_program()
    with (
        servers.cluster(repl_diskless_sync_delay="0") as nodes,
        servers.running(_follower(), port=servers.cluster_port()) as replica,
    ):
        _replicate(nodes[0], replica)
        storage = connected(port=nodes[1].port, cluster=True, prefix=fresh_prefix(), timeout=2)
        records = [record(Key("f", "t", str(number)), 1) for number in range(60)]
        storage.put_many(records)
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
            servers.wait_until(lambda: client.info("replication")["role"] == "master", "the replica takes over")
        # Until all have heard of it, the servers themselves may say that the cluster is down.
        servers.wait_until(lambda: all(map(_is_whole, (replica, *nodes[1:]))), "the cluster is whole")
        storage.put_many(records)
        with nodes[0].client() as client:
            servers.wait_until(lambda: _follows(client), "the former primary follows")
        # Now the cluster has to find out by itself that a primary is gone, and says meanwhile that it is down.
        replica.kill()
        servers.wait_until(lambda: succeeds(lambda: storage.put_many(records)), "the former primary takes over again")
        assert storage.count(Query()) == 60
        storage.disconnect()


def test_a_cluster_is_found_by_its_configured_name_when_all_addresses_have_changed() -> None:
    need_program()
    with servers.cluster() as before, servers.cluster() as after, named(before[0]) as name:
        storage = connected(port=name.port, cluster=True, prefix=fresh_prefix(), timeout=2, connect_timeout=2)
        storage.store("f", "t", "1", 1)
        name.move(after[0])
        for node in before:
            node.kill()
        assert not succeeds(lambda: storage.store("f", "t", "1", 2))
        storage.store("f", "t", "1", 2)
        storage.disconnect()


def _is_whole(server: servers.Server) -> bool:
    with server.client(decode_responses=True) as client:
        return bool(client.cluster("info")["cluster_state"] == "ok")


def _follower() -> dict[str, str]:
    return {"cluster-enabled": "yes", "cluster-node-timeout": "2000", **servers.SAFE}


def _replicate(primary: servers.Server, replica: servers.Server) -> None:
    with primary.client(decode_responses=True) as first, replica.client(decode_responses=True) as second:
        its_id = first.execute_command("CLUSTER", "MYID")
        second.execute_command("CLUSTER", "MEET", "127.0.0.1", primary.port)
        servers.wait_until(lambda: its_id in second.execute_command("CLUSTER", "NODES"), "the replica knows all")
        second.execute_command("CLUSTER", "REPLICATE", its_id)
        servers.wait_until(lambda: _follows(second), "the replica follows")


def _follows(client: Any) -> bool:
    return bool(client.info("replication").get("master_link_status") == "up")


# Silence


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    need_program()
    with servers.running() as server:
        yield server


def test_connecting_to_a_silent_server_waits_no_longer_than_to_connect(server: servers.Server) -> None:
    with proxy(server.port) as middle:
        middle.flowing.clear()
        storage = at(middle, timeout=10 * PATIENCE, connect_timeout=0.3)
        assert isinstance(returns(storage.connect), UnreachableError)


def test_a_new_connection_to_a_silent_server_waits_no_longer_than_to_connect(server: servers.Server) -> None:
    with proxy(server.port) as middle:
        storage = at(middle, timeout=10 * PATIENCE, connect_timeout=0.3)
        storage.connect()
        middle.flowing.clear()
        assert isinstance(returns(lambda: storage.get(Key("f", "t", "1"))), UnreachableError)
        middle.flowing.set()
        storage.disconnect()


def test_an_answer_may_take_longer_than_to_connect(server: servers.Server) -> None:
    storage = at(server, connect_timeout=0.5)
    storage.connect()
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", 1500, "ALL")
    assert storage.get_many([Ref(RESULT, Key("f", "t", "1"))]) == [None]
    storage.disconnect()


def test_a_silent_sentinel_is_passed_over() -> None:
    need_program()
    with servers.watched(3) as (_, _, watchers), proxy(watchers[0].port) as middle:
        middle.flowing.clear()
        ports = [middle.port, watchers[1].port]
        storage = RedisStorage(
            sentinels=[f"127.0.0.1:{port}" for port in ports],
            service_name="mine",
            timeout=10 * PATIENCE,
            connect_timeout=0.3,
        )
        assert returns(storage.connect) is None
        storage.disconnect()


def test_a_silent_cluster_is_unreachable() -> None:
    need_program()
    with servers.cluster() as nodes, proxy(nodes[0].port) as middle:
        middle.flowing.clear()
        storage = at(middle, cluster=True, timeout=10 * PATIENCE, connect_timeout=0.3)
        assert isinstance(returns(storage.connect), UnreachableError)
