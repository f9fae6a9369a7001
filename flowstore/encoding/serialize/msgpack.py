"""Values as msgpack: as they are where it has a form for them, else with marks."""

from __future__ import annotations

from typing import Any, Final

from flowstore.encoding.serialize import tables
from flowstore.encoding.serialize.json import is_plain
from flowstore.encoding.serialize.marks import SCALARS, Marks, Places
from flowstore.errors import SerializationError

PLAIN: Final = "msgpack"
TYPED: Final = "msgpack-typed"

_SCALARS: Final[frozenset[type]] = SCALARS | {float, bytes}
_MARKS: Final = Marks("msgpack", binary=True)


def dumps(value: object, places: Places | None = None) -> tuple[bytes, str]:
    """Encode a value.

    Args:
        places: takes down what is kept as another type than it has; without it, such a value is refused.

    Returns:
        The bytes, and the name of the serializer that reads them.

    Raises:
        SerializationError: a part of the value has no faithful form; names its path and type.
    """
    import msgpack

    packed: bytes
    try:
        if is_plain(value, _SCALARS):
            try:
                packed = msgpack.packb(value)
                return packed, PLAIN
            except (OverflowError, ValueError):
                pass  # an integer over 64 bits, a lone surrogate, deep nesting: the other form can hold the first two
        table = tables.dumps(value)
        if table is not None:
            return table
        tree = Marks("msgpack", binary=True, places=places).mark(value)
        packed = msgpack.packb(tree)
        if places is not None and places.count and is_plain(tree, _SCALARS):
            return packed, PLAIN
    except (RecursionError, ValueError):
        raise SerializationError("the value is nested too deeply to be stored, or contains itself") from None
    return packed, TYPED


def loads(payload: bytes) -> Any:
    """Decode plain msgpack."""
    import msgpack

    return msgpack.unpackb(payload, ext_hook=_refuse)


def loads_typed(payload: bytes) -> Any:
    """Decode msgpack with marks."""
    return _MARKS.unmark(loads(payload))


def _refuse(code: int, _: bytes) -> Any:
    raise ValueError(f"an extension type, {code}")
