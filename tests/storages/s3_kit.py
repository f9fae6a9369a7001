"""What the tests of S3 share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flowstore.storages import S3Storage
from tests.servers.s3 import Store


def fresh(store: Store) -> dict[str, Any]:
    """Return the configuration for an empty place."""
    return {**store.configuration, "prefix": f"{uuid.uuid4()}/records/", "connect_timeout": 5}


@contextmanager
def opened(configuration: dict[str, Any]) -> Iterator[S3Storage]:
    storage = S3Storage(**configuration)
    storage.connect()
    try:
        yield storage
    finally:
        storage.disconnect()
