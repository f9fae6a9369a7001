"""``MongoStorage``."""

from __future__ import annotations

from flowstore.storages.mongo.storage import MongoStorage

__all__ = ["MongoStorage"]
