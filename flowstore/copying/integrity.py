"""Whether records are intact, and whether two of them are the same."""

from __future__ import annotations

import hashlib
from typing import Final

from flowstore.record import Record, Ref
from flowstore.storage import RecordStorage

_CHUNK: Final = 1 << 20


def is_same_write(one: Record, other: Record) -> bool:
    """Return whether two records come from the same write.

    They are compared by their tokens, or if one has no token, by payload and headers.
    """
    token, other_token = one.headers.get("token"), other.headers.get("token")
    if token is None or other_token is None:
        return (one.payload, one.headers) == (other.payload, other.headers)
    return (token, one.headers.get("digest")) == (other_token, other.headers.get("digest"))


def is_intact(record: Record) -> bool:
    """Return whether the payload matches the digest, if there is one."""
    digest = record.headers.get("digest")
    return digest is None or digest == hashlib.blake2b(record.payload, digest_size=16).hexdigest()


def blob_digest(storage: RecordStorage, ref: Ref) -> str:
    """Return the digest of a blob, read from the storage."""
    digest = hashlib.blake2b(digest_size=16)
    with storage.retrieve_blob(ref.key, ref.name, kind=ref.kind, raw=True) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
