"""``MongoStorage``: records in MongoDB."""

from __future__ import annotations

from .storage import MongoStorage

__all__ = ["MongoStorage"]
