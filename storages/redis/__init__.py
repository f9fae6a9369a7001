"""``RedisStorage``: records in Redis or Valkey."""

from __future__ import annotations

from .storage import RedisStorage

__all__ = ["RedisStorage"]
