"""The S3 servers that the tests meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import met, s3
from tests.servers.s3 import Store
from tests.storages.s3.s3_kit import fresh


@pytest.fixture(scope="session")
def real_s3() -> Iterator[Store]:
    """A server that is no emulation."""
    if not s3.GIVEN and s3.find() is None:
        met.skip("S3Storage", s3.MISSING)
    with s3.real() as store:
        yield store


@pytest.fixture(scope="session")
def store(real_s3: Store) -> Store:
    return real_s3


@pytest.fixture(scope="session")
def emulation() -> Iterator[Store]:
    if not s3.find_emulation():
        met.skip("S3Storage", s3.MISSING_EMULATION)
    with s3.emulated() as store:
        yield store


@pytest.fixture
def s3_configuration(store: Store) -> dict[str, Any]:
    """An empty place on the server."""
    return fresh(store)


@pytest.fixture
def emulated_configuration(emulation: Store) -> dict[str, Any]:
    return fresh(emulation)
