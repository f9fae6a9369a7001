"""``RedisStorage``."""

from __future__ import annotations

from flowstore.storages.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
