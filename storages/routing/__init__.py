"""``RoutingStorage``."""

from __future__ import annotations

from .storage import RoutingStorage

__all__ = ["RoutingStorage"]
