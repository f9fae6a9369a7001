"""``SqlStorage``."""

from __future__ import annotations

from .storage import SqlStorage

__all__ = ["SqlStorage"]
