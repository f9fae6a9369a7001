"""Estimating the memory that decoding a payload takes.

A few compressed kilobytes can expand to millions of empty lists, each of which takes far more memory than its text.
"""

from __future__ import annotations

from typing import Final

from flowstore.errors import ConfigurationError

DEFAULT_DECODE_LIMIT: Final = 2**30
"""Bytes of memory that decoding a compressed payload may take, unless a storage sets ``decode_limit``."""

_MAX_EXPANSION: Final = 96
"""Bytes of memory that one byte of a payload takes at most: an empty list in msgpack is one byte."""
_CONTAINERS: Final = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_STRINGS: Final = bytes([*range(0xA1, 0xC0), 0xC4, 0xD9])


class MemoryLimit:
    """A limit on the estimated memory that decoding a payload takes.

    Payloads that exceed it are stored uncompressed, so a small record never expands beyond the limit.

    Args:
        limit: bytes of memory.

    Raises:
        ConfigurationError: the limit is not positive.
    """

    def __init__(self, limit: int) -> None:
        if limit <= 0:
            raise ConfigurationError(f"the decode limit must be more than 0 bytes, not {limit}")
        self.limit = limit

    def is_exceeded_by(self, payload: bytes, serializer: object) -> bool:
        """Return whether decoding the payload is expected to take more memory.

        The estimate counts the characters that begin a value. It also counts those inside strings, so it may be too
        high. For tables and pickles only the length counts.
        """
        return len(payload) * _MAX_EXPANSION > self.limit and _estimate(payload, serializer) > self.limit


def _estimate(payload: bytes, serializer: object) -> int:
    name = serializer if isinstance(serializer, str) else ""
    if name.startswith("json"):
        opening = 72 * payload.count(b"[") + 208 * payload.count(b"{")
        # A short string takes 56 bytes besides its slot in the list or dict, and has two quotation marks.
        texts = 28 * payload.count(b'"')
        return len(payload) + opening + texts + 32 * (payload.count(b",") + payload.count(b":"))
    if name.startswith("msgpack"):
        rest = payload.translate(None, _CONTAINERS)
        containers, strings = len(payload) - len(rest), len(rest) - len(rest.translate(None, _STRINGS))
        return 8 * len(payload) + 80 * containers + 56 * strings
    return len(payload)
