"""``RoutingStorage``: records in several storages."""

from __future__ import annotations

from .storage import RoutingStorage

__all__ = ["RoutingStorage"]
