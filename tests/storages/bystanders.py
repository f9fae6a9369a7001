"""What other programs keep beside flowstore's records, in the same database, bucket or folder."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pymongo
import redis

from tests.storages.sql.sql_servers import ask
from tests.storages.storage_kit import Recipe, contents

MINE = b"mine"


class Bystander(ABC):
    """Another program's data in a place of flowstore's."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration

    @abstractmethod
    def leave(self) -> None:
        """Put the data there; flowstore has connected already."""

    @abstractmethod
    def everything(self) -> dict[str, object]:
        """Return all that is there, flowstore's too, by its name."""

    def left(self) -> dict[str, object]:
        """Return what is there of what was left."""
        return {name: data for name, data in self.everything().items() if data == MINE}


class Nobody(Bystander):
    """For a place that nobody else can reach."""

    def leave(self) -> None:
        pass

    def everything(self) -> dict[str, object]:
        return {}


class Files(Bystander):
    def leave(self) -> None:
        root = Path(self.configuration["path"])
        (root / "blobs" / "result" / "ab").mkdir(parents=True, exist_ok=True)
        for folder in (root, root / "blobs" / "result" / "ab", root.parent):
            (folder / "notes.txt").write_bytes(MINE)

    def everything(self) -> dict[str, object]:
        return dict(contents(Path(self.configuration["path"]).parent))


class Sql(Bystander):
    def leave(self) -> None:
        self._ask("CREATE TABLE invoices (kind VARCHAR(20))")
        self._ask("INSERT INTO invoices VALUES ('mine')")

    def everything(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for number, (kind,) in enumerate(self._ask("SELECT kind FROM invoices")):
            found[f"invoice {number}"] = kind.encode()
        for number, _ in enumerate(self._ask("SELECT id FROM flowstore_records")):
            found[f"record {number}"] = None
        return found

    def _ask(self, statement: str) -> list[Any]:
        if not self.configuration["connection_string"].startswith("sqlite"):
            return ask(("SqlStorage", self.configuration), statement)
        path = self.configuration["connection_string"].removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement).fetchall()


class Redis(Bystander):
    def leave(self) -> None:
        prefix = self.configuration["prefix"]
        with closing(self._client()) as client:
            for name in ("", "x:{1}:kinds", ":{99}:kinds", ":{1}", ":{1}x:kinds"):
                client.set(f"{prefix}{name}", MINE)
            client.set(f"other-{prefix}:{{1}}:kinds", MINE)

    def everything(self) -> dict[str, object]:
        with closing(self._client()) as client:
            found = client.scan_iter(match=f"*{self.configuration['prefix']}*", count=1000)
            return {key.decode(): client.get(key) if client.type(key) == b"string" else None for key in found}

    def _client(self) -> Any:
        if "cluster" in self.configuration:
            return redis.RedisCluster(self.configuration["host"], self.configuration["port"])
        return redis.Redis.from_url(self.configuration["url"])


class Mongo(Bystander):
    def leave(self) -> None:
        with self._client() as client:
            database = client[self.configuration["db_name"]]
            name = self.configuration["collection_name"]
            for document in ({"_id": 1, "kind": "result"}, {"_id": "2" * 64, "kind": "result"}):
                database[name].insert_one({**document, "whose": MINE})
            database[f"{name}2"].insert_one({"_id": "3" * 64, "position": "x", "whose": MINE})

    def everything(self) -> dict[str, object]:
        with self._client() as client:
            database = client[self.configuration["db_name"]]
            name = self.configuration["collection_name"]
            return {str(one["_id"]): one.get("whose") for of in (name, f"{name}2") for one in database[of].find()}

    def _client(self) -> Any:
        return pymongo.MongoClient(self.configuration["uri"])


class S3(Bystander):
    def leave(self) -> None:
        prefix = self.configuration["prefix"]
        with closing(self._client()) as client:
            for name in ("notes.txt", "records/notes.txt", "records/result/notes.txt", "index/flows/result/notes.txt"):
                client.put_object(Bucket=self.configuration["bucket"], Key=f"{prefix}{name}", Body=MINE)
            client.put_object(Bucket=self.configuration["bucket"], Key=f"{prefix.rstrip('/')}.txt", Body=MINE)

    def everything(self) -> dict[str, object]:
        bucket, prefix = self.configuration["bucket"], self.configuration["prefix"].rstrip("/")
        with closing(self._client()) as client:
            listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
            return {one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.configuration["endpoint_url"],
            region_name=self.configuration["location"],
            aws_access_key_id=self.configuration["aws_access_key_id"],
            aws_secret_access_key=self.configuration["aws_secret_access_key"],
        )


def beside(recipe: Recipe) -> Bystander:
    """Return another program in the place of a recipe."""
    name, configuration = recipe
    kinds: dict[str, Callable[[dict[str, Any]], Bystander]] = {
        "FileStorage": Files, "SqlStorage": Sql, "RedisStorage": Redis, "MongoStorage": Mongo, "S3Storage": S3,
    }  # fmt: skip
    return kinds.get(name, Nobody)(configuration)
