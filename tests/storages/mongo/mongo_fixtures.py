"""The servers that speak MongoDB's protocol and that the tests meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import met, mongo
from tests.servers.mongo import Ferret, JavaServer, Mongod, Nx, Place
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.storages.mongo.mongo_kit import fresh, in_front


def serve(*kinds: type[Server]) -> Iterator[Place]:
    """Yield the first one of these that can be had."""
    reasons = []
    for kind in kinds:
        reason = mongo.missing(kind)
        if reason is None:
            with mongo.running(kind) as place:
                yield place
            return
        reasons.append(reason)
    met.skip("MongoStorage", "; ".join(reasons))


@pytest.fixture(scope="session")
def mongod() -> Iterator[Place]:
    yield from serve(Mongod)


@pytest.fixture(scope="session")
def java_server() -> Iterator[Place]:
    yield from serve(JavaServer)


@pytest.fixture(scope="session")
def nx() -> Iterator[Place]:
    yield from serve(Nx)


@pytest.fixture(scope="session")
def ferret() -> Iterator[Place]:
    yield from serve(Ferret)


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[Place]:
    """The best one there is."""
    yield from serve(Mongod, JavaServer, Nx)


@pytest.fixture
def mongo_configuration(mongo_server: Place) -> dict[str, Any]:
    return fresh(mongo_server.uri)


@pytest.fixture
def mongo_proxy(mongo_server: Place) -> Iterator[Proxy]:
    with in_front(mongo_server) as proxy:
        yield proxy
