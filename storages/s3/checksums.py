"""Checksums of request bodies, for buckets that require them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from .errors import code_of


class Checksums:
    """Send bodies with a Content-MD5 once the bucket refused one without.

    A bucket with Object Lock and a default retention requires checksums, and not every store supports the newer ones. A
    refused body has changed nothing, so that it can be sent again.
    """

    def __init__(self) -> None:
        self._is_needed = False

    def send(self, request: Callable[..., Any], body: bytes, **parameters: Any) -> Any:
        """Send a request with a body, with a checksum if required."""
        if not self._is_needed:
            try:
                return request(Body=body, **parameters)
            except ClientError as exc:
                if not _requires_checksum(exc):
                    raise
            self._is_needed = True
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return request(Body=body, ContentMD5=base64.b64encode(digest).decode(), **parameters)


def _requires_checksum(exc: ClientError) -> bool:
    # AWS answers with a general code, other stores with a special one.
    message = str(exc.response.get("Error", {}).get("Message", ""))
    return code_of(exc) == "MissingUploadObjectWithObjectLockHeaders" or (
        code_of(exc) == "InvalidRequest" and "Content-MD5" in message
    )
