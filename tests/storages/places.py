"""One empty place in every kind of storage, for what has to hold in all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowstore.storages
from flowstore.testing import Adapter
from tests.servers import met, s3
from tests.servers.process import free_port
from tests.storages.mongo.mongo_kit import fresh as fresh_mongo
from tests.storages.redis.redis_kit import fresh_prefix
from tests.storages.s3.s3_kit import fresh as fresh_s3
from tests.storages.storage_kit import Recipe

PLACES = ("memory", "file", "sqlite", "postgres", "mysql", "redis", "mongo", "s3", "routing")
SHARED = PLACES[1:]
"""Those that other processes and instances see too."""
SERVERS = ("postgres", "mysql", "redis", "mongo", "s3")
"""Those that are reached over a network."""


def recipe_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> Recipe:
    """Return the recipe of an empty place."""
    if kind == "memory":
        return "MemoryStorage", {}
    if kind == "file":
        return "FileStorage", {"path": str(folder / "records"), "durable": False}
    if kind == "sqlite":
        met.note("SqlStorage", met.SQLITE)
        return "SqlStorage", {"connection_string": f"sqlite:///{folder}/records.db", "synchronous": "NORMAL"}
    if kind == "routing":
        met.note("RoutingStorage", met.SQLITE)
        return _routing(folder)
    if kind in ("postgres", "mysql"):
        recipe: Recipe = request.getfixturevalue(f"{kind}_recipe")
        return recipe
    if kind == "redis":
        return "RedisStorage", {"url": request.getfixturevalue("redis_server_url"), "prefix": fresh_prefix()}
    if kind == "mongo":
        return "MongoStorage", fresh_mongo(request.getfixturevalue("mongo_server").uri)
    server = "real_s3" if s3.GIVEN or s3.find() else "emulation"
    return "S3Storage", fresh_s3(request.getfixturevalue(server))


def unreachable(kind: str, folder: Path) -> Recipe:
    """Return the recipe of a place that can't be reached, of one of the ``SHARED`` kinds."""
    nowhere = f"127.0.0.1:{free_port()}"
    soon = {"connect_timeout": 2}
    s3_keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "location": "us-east-1"}
    recipes: dict[str, Recipe] = {
        "file": ("FileStorage", {"path": str(folder / "no such folder" / "records")}),
        "sqlite": ("SqlStorage", {"connection_string": f"sqlite:///{folder}/no-such-folder/records.db"}),
        "postgres": ("SqlStorage", {"connection_string": f"postgresql://u@{nowhere}/d", **soon}),
        "mysql": ("SqlStorage", {"connection_string": f"mysql://u@{nowhere}/d", **soon}),
        "routing": _routing(folder / "no-such-folder"),
        "redis": ("RedisStorage", {"url": f"redis://{nowhere}/0", **soon}),
        "mongo": ("MongoStorage", {"uri": f"mongodb://{nowhere}", "db_name": "d", "collection_name": "c", **soon}),
        "s3": ("S3Storage", {"bucket": "bucket", "endpoint_url": f"http://{nowhere}", **s3_keys, **soon}),
    }
    return recipes[kind]


def _routing(folder: Path) -> Recipe:
    """Return the recipe of a database for everything but errors, which are in files."""
    main = {"connection_string": f"sqlite:///{folder}/main.db", "synchronous": "NORMAL"}
    storages = {
        "main": {"classname": "SqlStorage", "configuration": main},
        "errors": {"classname": "FileStorage", "configuration": {"path": str(folder / "errors"), "durable": False}},
    }
    routes = [{"storage": "errors", "kinds": ["error"]}]
    return "RoutingStorage", {"storages": storages, "routes": routes, "default": "main"}


def adapter(recipe: Recipe) -> Adapter:
    """Return how any process makes an instance of a place's adapter."""
    return Adapter(getattr(flowstore.storages, recipe[0]), recipe[1])


def entry(recipe: Recipe, name: str = "Results", **keys: Any) -> dict[str, Any]:
    """Return a storage's entry of a configuration."""
    return {"name": name, "classname": recipe[0], "configuration": recipe[1], **keys}


def configuration(recipe: Recipe, **keys: Any) -> dict[str, Any]:
    """Return a configuration with one storage, for everything."""
    return {"storages": [entry(recipe, **keys)], "global": {"default_storage": "Results"}}
