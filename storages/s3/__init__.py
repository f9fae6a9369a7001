"""``S3Storage``."""

from __future__ import annotations

from flowstore.storages.s3.storage import S3Storage

__all__ = ["S3Storage"]
