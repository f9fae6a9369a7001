"""``SqlStorage``."""

from __future__ import annotations

from flowstore.storages.sql.storage import SqlStorage

__all__ = ["SqlStorage"]
