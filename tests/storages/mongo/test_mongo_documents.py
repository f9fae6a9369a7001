"""What is in the collection, and what is refused or left alone there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from flowstore.errors import CorruptError, NotFoundError, SerializationError
from flowstore.record import JSON, RESULT, Key, Query, Record, Ref
from flowstore.storages import MongoStorage
from flowstore.testing import HOSTILE, record
from tests.servers.mongo import Place
from tests.storages.mongo.mongo_kit import fresh, opened

pytest_plugins = ("tests.storages.mongo.mongo_fixtures",)

Document = dict[str, Any]

KEY = Key("f", "t", "1")


@pytest.fixture
def storage(mongo_configuration: dict[str, Any]) -> Iterator[MongoStorage]:
    with opened(mongo_configuration) as storage:
        yield storage


@pytest.fixture
def collection(mongo_configuration: dict[str, Any]) -> Iterator[Collection[Document]]:
    client: MongoClient[Document] = MongoClient(mongo_configuration["uri"])
    with client:
        yield client[mongo_configuration["db_name"]][mongo_configuration["collection_name"]]


def document_of(collection: Collection[Document]) -> Document:
    [document] = collection.find()
    return document


def test_a_document_tells_what_it_is(storage: MongoStorage, collection: Collection[Document]) -> None:
    stored = storage.put(record(KEY, {"price": 42, "é": ["ü", None, 1.5]}, run_id="r", state="SUCCESS"))
    document = document_of(collection)
    assert document["_id"] == stored.ref.address.hex()
    assert [document[name] for name in ("kind", "flow_name", "task_name", "task_id", "name")] == [
        RESULT,
        "f",
        "t",
        "1",
        "",
    ]
    assert (document["run_id"], document["state"], document["revision"]) == ("r", "SUCCESS", stored.revision)
    assert document["value"] == {"price": 42, "é": ["ü", None, 1.5]}
    assert "payload" not in document
    assert collection.count_documents({"value.price": {"$gt": 41}}) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b'{"$where":1}',
        b'{"a.b":1}',
        b'{"a\\u0000b":1}',
        b'{"":1}',
        b'[{"x":{"$y":1}}]',
        b"9223372036854775808",
        b"[18446744073709551615]",
        b'{"a":1,"a":2}',
        b'{"a": 1}',
        b"1e2",
        b"[" * 60 + b"]" * 60,
        b'"' + b"x" * 70_000 + b'"',
        b"not json",
    ],
    ids=lambda payload: payload[:20].decode(),
)
def test_what_mongodb_would_change_is_kept_as_bytes(
    storage: MongoStorage, collection: Collection[Document], payload: bytes
) -> None:
    first = storage.put(Record(Ref(RESULT, KEY), b'{"was":"native"}', {"content_type": JSON})).revision
    storage.put(Record(Ref(RESULT, KEY), payload, {"content_type": JSON}))
    document = document_of(collection)
    assert bytes(document["payload"]) == payload
    assert "value" not in document
    assert storage.get(KEY).payload == payload
    storage.put(Record(Ref(RESULT, KEY), b"1", {"content_type": JSON}))
    document = document_of(collection)
    assert ("payload" in document, document["value"], document["revision"]) == (False, 1, first + 2)


@pytest.mark.parametrize(
    "payload",
    [
        b"null",
        b'""',
        b"[]",
        b"{}",
        b"-0.0",
        b"1.0",
        b"0.1",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"2147483648",
        b'{"10":1,"9":2,"_id":3,"b":4,"a":5}',
        b'{"key":"$a.b"}',
        b'["\\u0000","\xc3\xa9\xf0\x9f\x8d\x8e"]',
        b"[[[true]],[false,null]]",
    ],
    ids=lambda payload: payload.decode(),
)
def test_what_mongodb_can_hold_gives_the_same_bytes(
    storage: MongoStorage, collection: Collection[Document], payload: bytes
) -> None:
    storage.put(Record(Ref(RESULT, KEY), payload, {"content_type": JSON}))
    assert "value" in document_of(collection)
    assert storage.get(KEY).payload == payload


def test_a_time_to_expire_is_a_date_too(storage: MongoStorage, collection: Collection[Document]) -> None:
    storage.put(record(KEY, 1, expires_at=1e9 + 0.25))
    document = document_of(collection)
    assert document["expires_at"] == 1e9 + 0.25
    assert document["reclaim_at"].replace(tzinfo=UTC) == datetime.fromtimestamp(1e9 + 0.25, UTC)
    reclaim = collection.index_information().get("flowstore_reclaim")
    assert reclaim is None or reclaim.get("expireAfterSeconds", 86_400) == 86_400
    storage.put(record(KEY, 2))
    document = document_of(collection)
    assert (document["expires_at"], document["reclaim_at"]) == (None, None)


@pytest.mark.parametrize("expires_at", [1e12, 1e300, 0, -1e9])
def test_a_time_may_be_far_away(storage: MongoStorage, expires_at: float) -> None:
    storage.put(record(KEY, 1, expires_at=expires_at))
    found = storage.scan(Query(live_at=-1e10)).records
    assert [one.expires_at for one in found] == [expires_at]


def test_creates_nothing_else(storage: MongoStorage, mongo_server: Place, mongo_configuration: dict[str, Any]) -> None:
    database = f"own_{mongo_configuration['collection_name']}"
    with opened({**mongo_configuration, "db_name": database}) as own:
        own.store("f", "t", "1", "x" * 100_000)
        own.put_many([record(Key("f", "t", str(number)), number) for number in range(5)])
        list(own.records(Query()))
        own.delete_task(KEY)
    client: MongoClient[Document] = MongoClient(mongo_server.uri)
    with client:
        assert client[database].list_collection_names() == [mongo_configuration["collection_name"]]
        client.drop_database(database)


def test_collections_are_apart(mongo_configuration: dict[str, Any], mongo_server: Place) -> None:
    with opened(mongo_configuration) as one, opened(fresh(mongo_server.uri)) as other:
        one.put(record(KEY, "one", run_id="r"))
        other.put(record(KEY, "other", run_id="r"))
        assert (one.retrieve("f", "t", "1"), other.retrieve("f", "t", "1")) == ("one", "other")
        assert one.delete_task(KEY) == 1
        assert other.count(Query(run_id="r")) == 1


def test_leaves_other_documents_alone(storage: MongoStorage, collection: Collection[Document]) -> None:
    storage.put(record(KEY, "x", run_id="r"))
    others: list[Document] = [{"_id": "readme", "kind": RESULT, "run_id": "r"}, {"_id": "more", "text": "x"}]
    collection.insert_many(others)
    for query in (Query(), Query(kinds=(RESULT,)), Query(run_id="r")):
        assert [one.key for one in storage.records(query)] == [KEY]
        assert storage.count(query) == 1
    assert storage.delete_task(KEY) == 1
    assert sorted(collection.find(), key=lambda one: str(one["_id"])) == others[::-1]


@pytest.mark.parametrize(
    "change",
    [{"headers": "{"}, {"headers": 1}, {"headers": "[]"}, {"flow_name": 1}, {"kind": None}, {"revision": "x"}],
    ids=str,
)
def test_a_damaged_document_is_told_and_can_be_deleted(
    storage: MongoStorage, collection: Collection[Document], change: Document
) -> None:
    storage.put(record(KEY, "x"))
    collection.update_one({}, {"$set": change})
    with pytest.raises(CorruptError):
        storage.get(KEY)
    assert storage.delete(KEY)
    with pytest.raises(NotFoundError):
        storage.get(KEY)


def test_a_document_of_another_record_is_not_handed_out(
    storage: MongoStorage, collection: Collection[Document]
) -> None:
    storage.put(record(KEY, "x"))
    collection.update_one({}, {"$set": {"task_id": "2"}})
    with pytest.raises(CorruptError, match="answered with"):
        storage.get(KEY)


@pytest.mark.parametrize("operator", [{"$ne": ""}, {"$gt": ""}, {"$exists": True}, {"$regex": ".*"}], ids=str)
def test_a_query_can_not_be_made_an_operator(storage: MongoStorage, operator: Any) -> None:
    storage.put(record(KEY, "x", run_id="r", state="SUCCESS"))
    for field in ("flow_name", "task_name", "task_id", "run_id"):
        assert storage.scan(Query(**{field: operator})).records == []
        assert storage.count(Query(**{field: operator})) == 0
    for field in ("kinds", "task_ids", "states"):
        assert storage.scan(Query(**{field: (operator,)})).records == []  # type: ignore[arg-type]


def test_what_looks_like_an_operator_is_a_name(storage: MongoStorage) -> None:
    for part in HOSTILE:
        if "$" in part or "{" in part:
            storage.put(record(Key(part, part, part), part, run_id=part))
            assert [one.key.flow_name for one in storage.records(Query(flow_name=part, run_id=part))] == [part]


def test_a_record_that_is_too_large_is_refused_before_it_is_sent(storage: MongoStorage) -> None:
    storage.store("f", "t", "1", "old")
    revision = storage.get(KEY).revision
    for work in (
        lambda large: storage.put(large),
        lambda large: storage.put(large, if_revision=revision),
        lambda large: storage.put_many([record(Key("f", "t", "2"), "small"), large]),
    ):
        with pytest.raises(SerializationError, match="the maximum is 1048576"):
            work(record(KEY, "new", note="x" * (16 << 20)))
    assert storage.retrieve("f", "t", "1") == "old"
    assert storage.count(Query()) == 1
    storage.blob_threshold = None
    for size in (15 << 20, 17 << 20):
        storage.put(Record(Ref(RESULT, KEY), b"x" * size, {}))
        assert len(storage.get(KEY).payload) == size


def test_a_batch_replaces_and_adds(storage: MongoStorage) -> None:
    keys = [Key("f", "t", str(number)) for number in range(1500)]
    old = [one.revision for one in storage.put_many([record(key, "old") for key in keys[::2]])]
    storage.store("f", "t", "0", "older")
    stored = storage.put_many([record(key, "new", run_id="r") for key in keys])
    assert [one.revision for one in stored[::2]] == [old[0] + 2, *(revision + 1 for revision in old[1:])]
    assert min(one.revision for one in stored[1::2]) > max(old)
    assert storage.count(Query(run_id="r")) == 1500
    found = storage.get_many([one.ref for one in stored])
    assert found == stored
