"""msgpack: plain if lossless, else tagged."""

from __future__ import annotations

from typing import Any, Final

from flowstore.encoding.serialize import tables
from flowstore.encoding.serialize.json import is_plain
from flowstore.encoding.serialize.tags import SCALARS, ConvertedPaths, Tagger
from flowstore.errors import SerializationError

PLAIN: Final = "msgpack"
TYPED: Final = "msgpack-typed"

_SCALARS: Final[frozenset[type]] = SCALARS | {float, bytes}
_TAGGER: Final = Tagger("msgpack", binary=True)


def dumps(value: object, converted: ConvertedPaths | None = None) -> tuple[bytes, str]:
    """Encode a value.

    Args:
        converted: collects the paths of values stored as another type; without it, these are refused.

    Returns:
        The bytes, and the serializer name for ``loads``.

    Raises:
        SerializationError: a part of the value can't be stored; names its path and type.
    """
    import msgpack

    packed: bytes
    try:
        if is_plain(value, _SCALARS):
            try:
                packed = msgpack.packb(value)
                return packed, PLAIN
            except (OverflowError, ValueError):
                pass  # an integer over 64 bits, a lone surrogate, deep nesting: tags can represent the first two
        table = tables.dumps(value)
        if table is not None:
            return table
        tree = Tagger("msgpack", binary=True, converted=converted).tag(value)
        packed = msgpack.packb(tree)
        if converted is not None and converted.count and is_plain(tree, _SCALARS):
            return packed, PLAIN
    except (RecursionError, ValueError):
        raise SerializationError("the value is nested too deeply to be stored, or contains itself") from None
    return packed, TYPED


def loads(payload: bytes) -> Any:
    """Decode plain msgpack."""
    import msgpack

    return msgpack.unpackb(payload, ext_hook=_refuse)


def loads_typed(payload: bytes) -> Any:
    """Decode tagged msgpack."""
    return _TAGGER.untag(loads(payload))


def _refuse(code: int, _: bytes) -> Any:
    raise ValueError(f"an extension type, {code}")
