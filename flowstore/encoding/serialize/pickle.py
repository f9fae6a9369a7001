"""Pickles, only if a storage names them: loading one can run any code."""

from __future__ import annotations

import contextlib
import pickle  # noqa: TID251 - the only place, reached only if a configuration says so
from typing import Any, Final

from flowstore.encoding.serialize import json, tables
from flowstore.encoding.serialize.conversion import suggestion
from flowstore.encoding.serialize.tags import ConvertedPaths
from flowstore.errors import SerializationError
from flowstore.interrupts import is_interrupt

NAME: Final = "pickle"
_PROTOCOL: Final = 5


def dumps(value: object, converted: ConvertedPaths | None = None) -> tuple[bytes, str]:
    """Encode a value: plain JSON as JSON, all else as a pickle.

    JSON stays readable, and pickles keep every type.

    Returns:
        The bytes, and the serializer name for ``loads``.

    Raises:
        SerializationError: the value can't be pickled.
    """
    with contextlib.suppress(SerializationError, RecursionError):  # nested too deeply for JSON
        if json.is_plain(value):
            return json.dumps(value)
    with contextlib.suppress(SerializationError):  # Arrow would change it
        if (table := tables.dumps(value)) is not None:
            return table
    try:
        return pickle.dumps(value, _PROTOCOL), NAME
    except Exception as exc:  # the objects' methods may raise anything
        if is_interrupt(exc):
            raise
        raise SerializationError(
            f"can't store $: {type(value).__name__} can't be pickled: {exc}{suggestion(type(value))}"
        ) from exc


def loads(payload: bytes) -> Any:
    """Unpickle."""
    return pickle.loads(payload)
