"""Delete all keys of a prefix."""

from __future__ import annotations

import re
from typing import Any, Final

from flowstore.errors import CorruptError
from flowstore.record import PIECE

from .layout import SHARDS, Layout, load_ref
from .link import Link

_SPECIAL: Final = re.compile(rb"([\\*?\[\]^])")


def purge(link: Link, layout: Layout) -> int:
    """Delete all keys of a prefix, damaged and left over ones too; return the number of records, without pieces.

    Goes through all keys of each server, some at a time, since no index knows of what is left over. Keys of other
    prefixes are passed over.
    """
    deleted = 0
    # The braces around the number of the shard are no special characters.
    prefix = layout.base(0).rpartition(b"{")[0]
    pattern = _SPECIAL.sub(rb"\\\1", prefix) + b"{*}:*"
    bases = {layout.base(shard) for shard in range(SHARDS)}
    for keys in link.keys(pattern):
        based = ((_base(key, prefix), key) for key in dict.fromkeys(keys))
        deleted += _delete(link, [(base, key) for base, key in based if base in bases])
    return deleted


def _base(key: bytes, prefix: bytes) -> bytes:
    """Return what a key starts with, hash tag included."""
    return key[: key.find(b"}:", len(prefix)) + 2]


def _delete(link: Link, keys: list[tuple[bytes, bytes]]) -> int:
    records = [(base, key) for base, key in keys if key.startswith(base + b"record:")]
    refs = link.call_many([(base, (b"HGET", key, b"ref")) for base, key in records])
    gone: list[Any] = link.call_many([(base, (b"UNLINK", key)) for base, key in keys], mutates=True)
    by_key = dict(zip((key for _, key in keys), gone, strict=True))
    return sum(by_key[key] for (_, key), ref in zip(records, refs, strict=True) if not _is_piece(ref))


def _is_piece(ref: bytes | None) -> bool:
    try:
        return ref is not None and load_ref(ref).kind == PIECE
    except CorruptError:
        return False
