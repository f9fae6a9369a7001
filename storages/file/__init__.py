"""``FileStorage``: records in files."""

from __future__ import annotations

from .storage import FileStorage

__all__ = ["FileStorage"]
