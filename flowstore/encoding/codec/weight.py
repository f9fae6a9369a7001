"""What reading a payload would take of memory, told without reading it.

A few kilobytes that were compressed can stand for millions of empty lists, of which each takes more memory than its
text does.
"""

from __future__ import annotations

from typing import Final

from flowstore.errors import ConfigurationError

MOST: Final = 2**30
"""Bytes of memory that reading a compressed payload may take, unless a storage's entry says otherwise."""

_LEAST: Final = 96
"""Times its own length is the most that a payload can take: an empty list of msgpack is one byte."""
_CONTAINERS: Final = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_STRINGS: Final = bytes([*range(0xA1, 0xC0), 0xC4, 0xD9])


class Weight:
    """Tell which payloads are too heavy to be decompressed.

    A heavy one is stored as it is instead, so that a record takes more memory only where it has as many bytes itself.

    Args:
        most: bytes of memory that reading a payload may take.

    Raises:
        ConfigurationError: it is not a positive number.
    """

    def __init__(self, most: int) -> None:
        if most <= 0:
            raise ConfigurationError(f"the memory for reading must be more than 0 bytes, not {most}")
        self.most = most

    def is_exceeded(self, payload: bytes, serializer: object) -> bool:
        """Return whether reading a payload is expected to take too much.

        Counted are the characters that begin a part. Those inside of texts are counted too, so that the answer errs
        towards too much; of tables and pickles, which have no such parts, the length alone counts.
        """
        return len(payload) * _LEAST > self.most and _estimate(payload, serializer) > self.most


def _estimate(payload: bytes, serializer: object) -> int:
    name = serializer if isinstance(serializer, str) else ""
    if name.startswith("json"):
        opening = 72 * payload.count(b"[") + 208 * payload.count(b"{")
        # A short text takes 56 bytes beside its place in the list or dict, and has two quotation marks.
        texts = 28 * payload.count(b'"')
        return len(payload) + opening + texts + 32 * (payload.count(b",") + payload.count(b":"))
    if name.startswith("msgpack"):
        rest = payload.translate(None, _CONTAINERS)
        containers, strings = len(payload) - len(rest), len(rest) - len(rest.translate(None, _STRINGS))
        return 8 * len(payload) + 80 * containers + 56 * strings
    return len(payload)
