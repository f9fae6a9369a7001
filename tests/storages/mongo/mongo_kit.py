"""What the tests of MongoDB share."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import pytest

from flowstore.storages import MongoStorage
from tests.servers.mongo import Place
from tests.servers.proxy import Proxy, proxy
from tests.storages.storage_kit import connected_to


def in_front(place: Place) -> AbstractContextManager[Proxy]:
    """Start a proxy in front of a server."""
    found = urlsplit(place.uri)
    if found.scheme != "mongodb" or "," in found.netloc:
        pytest.skip("there can't be a proxy in front of several servers")
    return proxy(found.port or 27017, found.hostname or "127.0.0.1")


def through(one: Proxy) -> str:
    """Return the URI of what is behind a proxy."""
    return f"mongodb://127.0.0.1:{one.port}"


def fresh(uri: str) -> dict[str, Any]:
    """Return the configuration for an empty place."""
    collection_name = f"c{uuid.uuid4().hex}_records"
    return {"uri": uri, "db_name": "flowstore", "collection_name": collection_name, "connect_timeout": 2}


def opened(configuration: dict[str, Any]) -> AbstractContextManager[MongoStorage]:
    return connected_to(MongoStorage(**configuration))
