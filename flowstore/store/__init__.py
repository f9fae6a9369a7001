"""``FlowStore``, what applications call, and its chapters."""

from __future__ import annotations

from flowstore.store.store import APP_ATTRIBUTE, FlowStore

__all__ = ["APP_ATTRIBUTE", "FlowStore"]
