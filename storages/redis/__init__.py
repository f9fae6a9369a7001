"""``RedisStorage``."""

from __future__ import annotations

from .storage import RedisStorage

__all__ = ["RedisStorage"]
