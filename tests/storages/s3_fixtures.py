"""The S3 servers that the tests meet."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import s3
from tests.servers.s3 import Store


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """A server that is no emulation."""
    if not s3.GIVEN and s3.find() is None:
        pytest.skip(s3.MISSING)
    with s3.real() as store:
        print(f"S3: {s3.describe()}")
        yield store


@pytest.fixture(scope="session")
def emulation() -> Iterator[Store]:
    if not s3.find_emulation():
        pytest.skip(s3.MISSING_EMULATION)
    with s3.emulated() as store:
        print(f"S3: {s3.describe_emulation()}")
        yield store


@pytest.fixture
def s3_configuration(store: Store) -> dict[str, Any]:
    """An empty place on the server."""
    return fresh(store)


@pytest.fixture
def emulated_configuration(emulation: Store) -> dict[str, Any]:
    return fresh(emulation)


def fresh(store: Store) -> dict[str, Any]:
    return {**store.configuration, "prefix": f"{uuid.uuid4()}/records/", "connect_timeout": 5}
