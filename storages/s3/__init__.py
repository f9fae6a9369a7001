"""``S3Storage``."""

from __future__ import annotations

from .storage import S3Storage

__all__ = ["S3Storage"]
