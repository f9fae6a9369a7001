"""What the tests of S3 share."""

from __future__ import annotations

import uuid
from typing import Any

from tests.servers.s3 import Store


def fresh(store: Store) -> dict[str, Any]:
    """Return the configuration for an empty place."""
    return {**store.configuration, "prefix": f"{uuid.uuid4()}/records/", "connect_timeout": 5}
