"""``FileStorage``."""

from __future__ import annotations

from flowstore.storages.file.storage import FileStorage

__all__ = ["FileStorage"]
