"""Values of other types as the nearest value of those that are kept: a subclass as its base, and so on.

What such a value becomes is what kombu's JSON gives back for it, or richer where more is kept here: tuples stay tuples,
time zones with a name keep it.
"""

from __future__ import annotations

import datetime as dt
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from flowstore.errors import SerializationError
from flowstore.interrupts import is_interrupt

UNKNOWN: Final = object()
"""What is returned for a value that has no other form."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A value of a type that an application has registered with a library, as the JSON data that makes it again."""

    library: str
    data: Any


@dataclass(frozen=True, slots=True)
class Forms:
    """What another library knows of further types.

    Attributes:
        flatten: returns another value for one, a ``Registered``, or ``UNKNOWN``.
        restore: returns the value of the data of a ``Registered``.
    """

    flatten: Callable[[object], object]
    restore: Callable[[Any], Any]


_forms: dict[str, Forms] = {}


def add_forms(library: str, forms: Forms) -> None:
    """Let a library say what its values become. A second call for it replaces the first."""
    _forms[library] = forms


def flatten(value: object) -> object:
    """Return the value to keep for one of a type that is none of those kept: ``UNKNOWN`` where there is none.

    Raises:
        SerializationError: the value has a form of its own, and making it failed.
    """
    kind = type(value)
    for base, convert in _BASES.items():
        if issubclass(kind, base):
            return convert(value)
    try:
        # As kombu does it: an object that says itself what it is in JSON.
        reduce = getattr(value, "__json__", None)
        if reduce is not None and not isinstance(value, type):
            return reduce()
        for forms in _forms.values():
            flat = forms.flatten(value)
            if flat is not UNKNOWN:
                return flat
    except Exception as exc:  # whatever an application's own code raises
        if is_interrupt(exc):
            raise
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise SerializationError(f"a value of type {name} has no form: {type(exc).__name__} in making it") from exc
    return _of_numpy(value)


def restore(registered: Registered) -> Any:
    """Return the value of a registered type.

    Raises:
        LookupError: its library is not in use in this process.
        Exception: whatever the application's own code raises.
    """
    forms = _forms.get(registered.library)
    if forms is None:
        raise LookupError(
            f"it holds a value of a type that is registered with {registered.library}: import the module that "
            "registers it and attach the FlowStore to its app before reading"
        )
    return forms.restore(registered.data)


def _of_datetime(value: Any) -> dt.datetime | None:
    if value != value:  # pandas.NaT
        return None
    year, month, day, hour, minute = value.year, value.month, value.day, value.hour, value.minute
    second, fraction = value.second, value.microsecond
    return dt.datetime(year, month, day, hour, minute, second, fraction, value.tzinfo, fold=value.fold)


def _of_time(value: Any) -> dt.time:
    return dt.time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


_BASES: Final[dict[type, Callable[[Any], object]]] = {
    # By the bases' own methods: a subclass may have put anything in their place. A dict's is asked, as JSON does it.
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
    """Return the value of a scalar of numpy as Python has it; what Python has not is unknown."""
    numpy = sys.modules.get("numpy")  # such a value exists only where it is imported
    if numpy is None or not isinstance(value, numpy.generic):
        return UNKNOWN
    if isinstance(value, (numpy.datetime64, numpy.timedelta64)):
        return _of_numpy_time(value, numpy)
    item = value.item()
    return UNKNOWN if isinstance(item, numpy.generic) else item


def _of_numpy_time(value: Any, numpy: Any) -> object:
    """Return a time or a span in microseconds, as Python has them; ``UNKNOWN`` where it is out of their range."""
    if numpy.isnat(value):
        return None
    # Anything else than microseconds Python is given as a number, if at all.
    rounded = value.astype(f"{value.dtype.kind}8[us]")
    finer = numpy.datetime_data(value.dtype)[0] in ("ns", "ps", "fs", "as")
    item = rounded.item()
    return (
        item
        if isinstance(item, dt.date | dt.timedelta) and (finer or rounded.astype(value.dtype) == value)
        else UNKNOWN
    )
