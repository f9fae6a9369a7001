"""MongoStorage next to pymongo, with the same indexes and write concern."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson
from bson.binary import Binary
from pymongo import MongoClient, WriteConcern

from benchmarks.adapters.contenders import (
    CELERY,
    FLOW,
    KIND,
    OURS,
    RAW,
    TASK,
    CelerysOwn,
    Contender,
    Ours,
    Subject,
    closing,
)
from tests.servers import mongo

_DATABASE: Final = "flowstore_bench"
_SERVERS: Final = (mongo.Mongod, mongo.JavaServer, mongo.Nx)

_there = [kind for kind in _SERVERS if mongo.missing(kind) is None]
MISSING = None if _there else mongo.missing(mongo.Mongod)


class _PyMongo(Contender):
    def __init__(self, uri: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri, retryWrites=False)
        database = self._client[_DATABASE]
        self._collection = database.get_collection("raw", write_concern=WriteConcern("majority", j=True))
        for name, index in database["records"].index_information().items():
            if name != "_id_":
                self._collection.create_index(index["key"], name=name)

    def store(self, task_id: str, value: Any) -> None:
        document = _document(task_id, value)
        self._collection.replace_one({"_id": task_id}, document, upsert=True)

    def retrieve(self, task_id: str) -> Any:
        found = self._collection.find_one({"_id": task_id}, {"payload": True})
        assert found is not None
        return orjson.loads(found["payload"])

    def store_many(self, items: Sequence[tuple[str, Any]]) -> None:
        self._collection.insert_many([_document(task_id, value) for task_id, value in items], ordered=False)

    def retrieve_many(self, task_ids: Sequence[str]) -> Sequence[Any]:
        found = {
            document["_id"]: document["payload"]
            for document in self._collection.find({"_id": {"$in": list(task_ids)}}, {"payload": True})
        }
        return [orjson.loads(found[task_id]) for task_id in task_ids]

    def close(self) -> None:
        self._client.close()


def _document(task_id: str, value: Any) -> dict[str, Any]:
    return {
        "_id": task_id,
        "kind": KIND,
        "flow_name": FLOW,
        "task_name": TASK,
        "task_id": task_id,
        "run_id": None,
        "expires_at": None,
        "position": task_id,
        "stored_at": time.time(),
        "payload": Binary(orjson.dumps(value)),
    }


@contextmanager
def subject() -> Iterator[Subject]:
    """Yield the contenders."""
    kind = _there[0]
    with mongo.running(kind) as place:
        configuration = {"uri": place.uri, "db_name": _DATABASE, "collection_name": "records"}
        contenders: dict[str, Contender] = {OURS: Ours("MongoStorage", configuration)}
        contenders |= {
            RAW: _PyMongo(place.uri),
            CELERY: CelerysOwn(f"{place.uri.rstrip('/')}/{_DATABASE}"),
        }
        with closing(Subject("mongo", str(mongo.describe(kind)), contenders)) as made:
            yield made
