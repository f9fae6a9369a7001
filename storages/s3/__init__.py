"""``S3Storage``: records in S3."""

from __future__ import annotations

from .storage import S3Storage

__all__ = ["S3Storage"]
