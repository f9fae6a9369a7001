"""Redis behind Sentinels and in a cluster, while servers fail and slots move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from flowstore.errors import ConfigurationError, StorageError, UnreachableError
from flowstore.record import RESULT, Key, Query, Record, Ref
from flowstore.storages import RedisStorage
from tests.servers import redis as servers
from tests.storages.redis.redis_kit import check_indexes, connected, fresh_prefix, need_program
from tests.storages.storage_kit import record

pytest_plugins = ("tests.storages.redis.redis_fixtures",)


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
    stored_first = storage.put_many(records[:50])
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
        assert storage.get(keys[0]) == stored_first[0]
        again = storage.put_many(records[:50])
        assert [one.revision for one in again] == [one.revision + 1 for one in stored_first]
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
