"""Values as pickles, for a storage that names them: loading one can run any code."""

from __future__ import annotations

import contextlib
import pickle  # noqa: TID251 - the one place, reached only where a configuration says so
from typing import Any, Final

from flowstore.encoding.serialize import json, tables
from flowstore.encoding.serialize.hints import hint
from flowstore.encoding.serialize.marks import Places
from flowstore.errors import SerializationError
from flowstore.interrupts import is_interrupt

NAME: Final = "pickle"
_PROTOCOL: Final = 5


def dumps(value: object, places: Places | None = None) -> tuple[bytes, str]:
    """Encode a value: plain JSON as JSON, so that it stays readable, all else as a pickle, which keeps every type.

    Returns:
        The bytes, and the name of the serializer that reads them.

    Raises:
        SerializationError: the value can't be pickled.
    """
    with contextlib.suppress(SerializationError, RecursionError):  # nested too deeply for JSON
        if json.is_plain(value):
            return json.dumps(value)
    with contextlib.suppress(SerializationError):  # no faithful form in Arrow
        if (table := tables.dumps(value)) is not None:
            return table
    try:
        return pickle.dumps(value, _PROTOCOL), NAME
    except Exception as exc:  # whatever the objects' own methods raise
        if is_interrupt(exc):
            raise
        raise SerializationError(
            f"can't store $: {type(value).__name__} can't be pickled: {exc}{hint(type(value))}"
        ) from exc


def loads(payload: bytes) -> Any:
    """Unpickle."""
    return pickle.loads(payload)
