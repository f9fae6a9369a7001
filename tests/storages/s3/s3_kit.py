"""What the tests of S3 share."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from typing import Any

from flowstore.storages import S3Storage
from tests.servers.s3 import Store
from tests.storages.storage_kit import connected_to


def fresh(store: Store) -> dict[str, Any]:
    """Return the configuration for an empty place."""
    return {**store.configuration, "prefix": f"{uuid.uuid4()}/records/", "connect_timeout": 5}


def opened(configuration: dict[str, Any]) -> AbstractContextManager[S3Storage]:
    return connected_to(S3Storage(**configuration))
