"""Conditional requests, and which of them a store honours."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from flowstore.errors import StorageError, UnreachableError

from .bucket import Bucket
from .errors import code_of


@dataclass(frozen=True, slots=True)
class SupportedConditions:
    """Whether a store honours conditions when writing, and when deleting."""

    put: bool
    delete: bool


_TRIES: Final = 3
_known: dict[tuple[str | None, str], SupportedConditions] = {}


def conditions_of(bucket: Bucket, prefix: str) -> SupportedConditions:
    """Return which conditions the store honours; tried once per process.

    Credentials that may not write can't find out: they get no conditions.

    Raises:
        UnreachableError: the store can't be reached now.
    """
    store = bucket.options.endpoint_url, bucket.options.bucket
    known = _known.get(store)
    if known is not None:
        return known
    for _ in range(_TRIES):
        try:
            tried = _try(bucket, f"{prefix}probe/{secrets.token_hex(16)}")
        except StorageError as exc:
            if isinstance(exc, UnreachableError) and code_of(exc.__cause__) != "NotImplemented":
                raise
            # The store refuses conditions, or these credentials may not write: the writes that follow will say so.
            continue
        if tried is not None:
            _known[store] = tried
            return tried
    return SupportedConditions(put=False, delete=False)


def _try(bucket: Bucket, key: str) -> SupportedConditions | None:
    """Return which conditions the store honours, or None if that failed.

    A refusal proves nothing: a busy store refuses now and then. Only a write against its condition that succeeds proves
    that the store ignores conditions.
    """

    def put(data: bytes, if_match: str | None = None, if_absent: bool = False) -> str | None:
        return bucket.put(key, data, content_type="text/plain", if_match=if_match, if_absent=if_absent)

    first = put(b"1", if_absent=True)
    if first is None:
        return None
    left = True
    try:
        second = put(b"2", if_match=first)
        if second is None:
            return None
        creates = put(b"3", if_absent=True) is None
        replaces = put(b"4", if_match=first) is None
        deletes = not bucket.delete(key, first)
        left = not (deletes and bucket.delete(key, second))
        return SupportedConditions(put=creates and replaces, delete=deletes and not left)
    finally:
        if left:
            bucket.delete(key)
