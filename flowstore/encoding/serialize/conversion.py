"""Converting values of unsupported types to the nearest supported type.

A value becomes what kombu's JSON would return for it, or something richer: tuples stay tuples, and named time zones
keep their names.
"""

from __future__ import annotations

import datetime as dt
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from flowstore.errors import SerializationError
from flowstore.interrupts import is_interrupt

UNSUPPORTED: Final = object()
"""Returned for values that can't be converted."""


@dataclass(frozen=True, slots=True)
class RegisteredValue:
    """JSON data for a value whose type is registered with a library."""

    library: str
    data: Any


@dataclass(frozen=True, slots=True)
class Converter:
    """How another library converts values of further types.

    Attributes:
        convert: returns a replacement for a value, a ``RegisteredValue``, or ``UNSUPPORTED``.
        restore: returns the value for the data of a ``RegisteredValue``.
    """

    convert: Callable[[object], object]
    restore: Callable[[Any], Any]


_converters: dict[str, Converter] = {}


def register_converter(library: str, converter: Converter) -> None:
    """Register the converter of a library; a second call replaces the first."""
    _converters[library] = converter


def convert(value: object) -> object:
    """Convert a value to the nearest supported type, or ``UNSUPPORTED``.

    Raises:
        SerializationError: the value's own conversion failed.
    """
    kind = type(value)
    for base, to_base in _BASES.items():
        if issubclass(kind, base):
            return to_base(value)
    try:
        # As in kombu: an object that defines its JSON form.
        reduce = getattr(value, "__json__", None)
        if reduce is not None and not isinstance(value, type):
            return reduce()
        for converter in _converters.values():
            converted = converter.convert(value)
            if converted is not UNSUPPORTED:
                return converted
    except Exception as exc:  # application code may raise anything
        if is_interrupt(exc):
            raise
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise SerializationError(f"a value of type {name} can't be converted: {type(exc).__name__} was raised") from exc
    return _of_numpy(value)


def restore(registered: RegisteredValue) -> Any:
    """Return the value of a registered type.

    Raises:
        LookupError: its library is not used in this process.
        Exception: whatever the application's code raises.
    """
    converter = _converters.get(registered.library)
    if converter is None:
        raise LookupError(
            f"it holds a value of a type that is registered with {registered.library}: import the module that "
            "registers it and attach the FlowStore to its app before reading"
        )
    return converter.restore(registered.data)


def _of_datetime(value: Any) -> dt.datetime | None:
    if value != value:  # pandas.NaT
        return None
    year, month, day, hour, minute = value.year, value.month, value.day, value.hour, value.minute
    second, fraction = value.second, value.microsecond
    return dt.datetime(year, month, day, hour, minute, second, fraction, value.tzinfo, fold=value.fold)


def _of_time(value: Any) -> dt.time:
    return dt.time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


_BASES: Final[dict[type, Callable[[Any], object]]] = {
    # By the methods of the bases: a subclass may override them with anything. Only dict's are called, as JSON does.
    str: str.__str__,
    dict: lambda value: dict(value.items()),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: lambda value: bytearray(memoryview(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    # A datetime is a date as well.
    dt.datetime: _of_datetime,
    dt.date: lambda value: dt.date(value.year, value.month, value.day),
    dt.time: _of_time,
    dt.timedelta: lambda value: dt.timedelta(value.days, value.seconds, value.microseconds),
    uuid.UUID: lambda value: uuid.UUID(int=value.int),
    Decimal: Decimal,
    complex: lambda value: complex(value.real, value.imag),
}


def _of_numpy(value: Any) -> object:
    """Convert a numpy scalar to its Python type, or ``UNSUPPORTED``."""
    numpy = sys.modules.get("numpy")  # a numpy value exists only if numpy is imported
    if numpy is None or not isinstance(value, numpy.generic):
        return UNSUPPORTED
    if isinstance(value, (numpy.datetime64, numpy.timedelta64)):
        return _of_numpy_time(value, numpy)
    item = value.item()
    return UNSUPPORTED if isinstance(item, numpy.generic) else item


def _of_numpy_time(value: Any, numpy: Any) -> object:
    """Convert to Python's microseconds; ``UNSUPPORTED`` if out of range."""
    if numpy.isnat(value):
        return None
    # item() returns other units than microseconds as a number, if at all.
    rounded = value.astype(f"{value.dtype.kind}8[us]")
    finer = numpy.datetime_data(value.dtype)[0] in ("ns", "ps", "fs", "as")
    item = rounded.item()
    return (
        item
        if isinstance(item, dt.date | dt.timedelta) and (finer or rounded.astype(value.dtype) == value)
        else UNSUPPORTED
    )


_SUGGESTED: Final = (dict, list, tuple, str, bytes, int, float, set)


def suggestion(kind: type) -> str:
    """Return what to return instead of values of this type.

    Text to append to an error message; ``""`` if unknown.
    """
    if issubclass(kind, Awaitable | AsyncIterator):
        return "; Celery calls an 'async def' and does not await it: make the task a 'def' that calls asyncio.run(...)"
    if issubclass(kind, Iterator):
        return "; it produces its items lazily: return list(...) of it"
    if hasattr(kind, "__dataclass_fields__"):
        return "; return its .to_dict()" if hasattr(kind, "to_dict") else "; return dataclasses.asdict(...) of it"
    if hasattr(kind, "model_dump"):
        return "; return its .model_dump()"
    if hasattr(kind, "to_frame"):
        return "; return its .to_frame()"
    for base in _SUGGESTED:
        if issubclass(kind, base):
            return f"; it would not come back as that subclass of {base.__name__}: return {base.__name__}(...) of it"
    if issubclass(kind, Enum):
        return "; return its .value"
    if hasattr(kind, "tolist"):
        return "; return its .tolist()"
    return "; return list(...) of it" if issubclass(kind, Collection) else ""
