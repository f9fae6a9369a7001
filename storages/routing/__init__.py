"""``RoutingStorage``."""

from __future__ import annotations

from flowstore.storages.routing.storage import RoutingStorage

__all__ = ["RoutingStorage"]
