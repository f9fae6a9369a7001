"""Find out whether a store keeps to conditions, by trying."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from flowstore.errors import StorageError, UnreachableError
from flowstore.storages._s3_bucket import Bucket


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions that a store keeps to: when writing, and when deleting."""

    put: bool
    delete: bool


_known: dict[tuple[str | None, str], Conditions] = {}


def conditions_of(bucket: Bucket, prefix: str) -> Conditions:
    """Return the conditions that the bucket's store keeps to; tried once in a process, with one small object.

    Credentials that may not write can't find out: for them, there are none.
    """
    store = bucket.settings.endpoint_url, bucket.settings.bucket
    known = _known.get(store)
    if known is None:
        try:
            known = _try(bucket, f"{prefix}probe/{secrets.token_hex(16)}")
        except UnreachableError:
            raise
        except StorageError:
            # The store knows no conditions, or these credentials may not write: the writes that follow will say so.
            return Conditions(put=False, delete=False)
        _known[store] = known
    return known


def _try(bucket: Bucket, key: str) -> Conditions:
    def put(data: bytes, if_match: str | None = None, if_absent: bool = False) -> str | None:
        return bucket.put(key, data, content_type="text/plain", if_match=if_match, if_absent=if_absent)

    left = False
    try:
        first = put(b"1", if_absent=True)
        left = True
        second = put(b"2", if_match=first)
        creates = first is not None and put(b"3", if_absent=True) is None
        replaces = second is not None and put(b"4", if_match=first) is None
        deletes = not bucket.delete(key, first)
        left = not (deletes and bucket.delete(key, second))
    finally:
        if left:
            bucket.delete(key)
    return Conditions(put=creates and replaces, delete=deletes and not left)
