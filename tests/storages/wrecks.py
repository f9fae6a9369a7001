"""Writing the headers of a stored record around flowstore, in every kind of storage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from flowstore.record import Ref
from flowstore.storage import RecordStorage
from flowstore.storages import MemoryStorage, RedisStorage, S3Storage
from flowstore.storages.shared.names import Location
from flowstore.testing import Adapter
from tests.storages.bystanders import S3, Mongo, Redis
from tests.storages.sql.sql_servers import ask
from tests.storages.storage_kit import Recipe

NO_JSON = b"{"

Change = Callable[[bytes], bytes]
"""Makes the text of other headers of that of those which are stored."""


def wreck(recipe: Recipe, storage: RecordStorage, ref: Ref, change: Change) -> None:
    """Change the stored headers of a record."""
    name, configuration = recipe
    if name == "RoutingStorage":
        name, configuration = "SqlStorage", configuration["storages"]["main"]["configuration"]
    _WAYS[name](configuration, storage, ref, change)


def _memory(_: dict[str, Any], storage: RecordStorage, ref: Ref, change: Change) -> None:
    assert isinstance(storage, MemoryStorage)
    entry = storage._entries[ref.address]
    storage._entries[ref.address] = replace(entry, headers=change(entry.headers))


def _file(configuration: dict[str, Any], _: RecordStorage, ref: Ref, change: Change) -> None:
    place = Location.of(ref)
    path = Path(configuration["path"], "records", place.kind, place.shard, place.name)
    path.write_bytes(_envelope(path.read_bytes(), change))


def _sql(configuration: dict[str, Any], _: RecordStorage, ref: Ref, change: Change) -> None:
    read, write = (
        "SELECT headers FROM flowstore_records WHERE address = %s",
        "UPDATE flowstore_records SET headers = %s",
    )
    write += " WHERE address = %s"
    string = configuration["connection_string"]
    if not string.startswith("sqlite"):
        recipe = ("SqlStorage", configuration)
        ((headers,),) = ask(recipe, read, [ref.address])
        ask(recipe, write, [change(headers.encode()).decode(), ref.address])
        return
    with closing(sqlite3.connect(string.removeprefix("sqlite:///"))) as connection, connection:
        ((headers,),) = connection.execute(read.replace("%s", "?"), [ref.address])
        text = change(headers.encode())
        connection.execute(write.replace("= %s W", "= CAST(? AS TEXT) W").replace("%s", "?"), [text, ref.address])


def _redis(configuration: dict[str, Any], storage: RecordStorage, ref: Ref, change: Change) -> None:
    assert isinstance(storage, RedisStorage)
    _, (_, key, *_) = storage._getting(ref, False)
    with closing(Redis(configuration)._client()) as client:
        client.hset(key, "headers", change(client.hget(key, "headers")))


def _mongo(configuration: dict[str, Any], _: RecordStorage, ref: Ref, change: Change) -> None:
    with Mongo(configuration)._client() as client:
        collection = client[configuration["db_name"]][configuration["collection_name"]]
        the_one = {"_id": ref.address.hex()}
        headers = change(collection.find_one(the_one)["headers"].encode()).decode(errors="replace")
        collection.update_one(the_one, {"$set": {"headers": headers}})


def _s3(configuration: dict[str, Any], storage: RecordStorage, ref: Ref, change: Change) -> None:
    assert isinstance(storage, S3Storage)
    place = Location.of(ref)
    the_one = {"Bucket": configuration["bucket"], "Key": f"{configuration['prefix']}records/{place.kind}/{place.name}"}
    with closing(S3(configuration)._client()) as client:
        data = client.get_object(**the_one)["Body"].read()
        client.put_object(Body=_envelope(data, change), **the_one)


def _envelope(data: bytes, change: Change) -> bytes:
    line, payload = data.split(b"\n", 1)
    envelope = orjson.loads(line)
    headers = change(orjson.dumps(envelope["headers"]))
    return orjson.dumps({**envelope, "headers": "HERE"}).replace(b'"HERE"', headers) + b"\n" + payload


_WAYS = {
    "MemoryStorage": _memory, "FileStorage": _file, "SqlStorage": _sql, "RedisStorage": _redis, "MongoStorage": _mongo,
    "S3Storage": _s3,
}  # fmt: skip


class Wrecked:
    """What the kit needs to prove that one damaged record stops nothing beside it."""

    @pytest.fixture
    def damage(self, adapter: Adapter, storage: RecordStorage) -> Callable[[Ref], None]:
        recipe = (adapter.storage_class.__name__, dict(adapter.configuration))
        return lambda ref: wreck(recipe, storage, ref, lambda _: NO_JSON)
