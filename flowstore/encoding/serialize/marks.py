"""Values as trees of what a format has, in which anything else is marked.

::

    (1, {2})  ->  {"$type": "tuple", "value": [1, {"$type": "set", "value": [2]}]}
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from flowstore.encoding.serialize.flatten import UNKNOWN, Registered, flatten, restore
from flowstore.encoding.serialize.hints import hint
from flowstore.errors import SerializationError
from flowstore.interrupts import is_interrupt
from flowstore.texts import Texts, fits

MARK: Final = "$type"
SCALARS: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
"""What every format has, of any value but for long integers and lone surrogates."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_INT_64: Final = range(-(2**63), 2**64)

_Path = tuple["str | int", ...]
_MOST_PLACES: Final = 20
_MAX_PLACE: Final = 200


class Places:
    """Note where in a value something is kept as another type."""

    def __init__(self) -> None:
        self.count = 0
        self._noted: list[str] = []

    def note(self, path: _Path) -> None:
        self.count += 1
        if self.count <= _MOST_PLACES:
            self._noted.append(where(path)[:_MAX_PLACE])

    def shown(self) -> list[str]:
        """Return the first places, and ``…`` for all further ones."""
        return self._noted if self.count <= _MOST_PLACES else [*self._noted, "…"]


class Marks:
    """Turn values into trees of scalars, lists and dicts with string keys, and back.

    Args:
        form: the name of the format, for messages.
        binary: whether it has bytes, any float, and integers of 64 bits only; else it has finite floats, and integers
            of any size.
        places: takes down what is kept as another type than it has; without it, such a value is refused.
    """

    def __init__(self, form: str, *, binary: bool, places: Places | None = None) -> None:
        self._form = form
        self._binary = binary
        self.places = places

    def mark(self, value: object, path: _Path = ()) -> Any:
        """Return a value as a tree.

        Raises:
            SerializationError: a part of it has no faithful form; names its path and type.
        """
        kind = type(value)
        if isinstance(value, str) and kind is str:
            return value if _is_unicode(value) else self._surrogates(value)
        if kind in SCALARS:
            return {MARK: "int", "value": f"{value:x}"} if self._is_too_long(value) else value
        if kind is float:
            fits = self._binary or math.isfinite(value)  # type: ignore[arg-type]
            return value if fits else {MARK: "float", "value": repr(value)}
        if kind is bytes and self._binary:
            return value
        if kind is list:
            return self.items(value, path)  # type: ignore[arg-type]
        if kind is dict:
            return self._dict(value, path)  # type: ignore[arg-type]
        encode = _ENCODERS.get(kind)
        if encode is None:
            return self._flattened(value, path)
        return {MARK: kind.__name__, **encode(self, value, path)}

    def unmark(self, tree: Any) -> Any:
        """Return the value of a tree; whatever the types' constructors raise where it is none that ``mark`` makes."""
        if type(tree) is list:
            return [self.unmark(item) for item in tree]
        if type(tree) is not dict:
            return tree
        if MARK not in tree:
            return {key: self.unmark(item) for key, item in tree.items()}
        return _DECODERS[tree[MARK]](self, tree)

    def items(self, values: Iterable[object], path: _Path) -> list[Any]:
        return [self.mark(value, (*path, index)) for index, value in enumerate(values)]

    def data(self, data: bytes) -> Any:
        return data if self._binary else base64.b64encode(data).decode()

    def undata(self, data: Any) -> bytes:
        if not self._binary:
            return base64.b64decode(data, validate=True)
        if type(data) is not bytes:
            raise TypeError(f"{type(data).__name__} instead of bytes")
        return data

    def members(self, values: Iterable[object], path: _Path) -> list[Any]:
        """Return the items of a set, each of which has to be hashable when it is read."""
        return [self._member(value, (*path, index)) for index, value in enumerate(values)]

    def refusal(self, value: object, path: _Path) -> SerializationError:
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        place = where(path)
        message = f"can't store {place}: a value of type {name} has no {self._form} form{hint(kind)}"
        return SerializationError(message, place, name)

    def _flattened(self, value: object, path: _Path) -> Any:
        if self.places is None:
            raise self.refusal(value, path)
        try:
            flat = flatten(value)
        except SerializationError as exc:
            raise SerializationError(f"can't store {where(path)}: {exc}", where(path), type(value).__name__) from exc
        if flat is UNKNOWN:
            raise self.refusal(value, path)
        self.places.note(path)
        if isinstance(flat, Registered):
            return {MARK: "registered", "by": flat.library, "value": self.mark(flat.data, path)}
        return self.mark(flat, path)

    def _dict(self, items: dict[Any, Any], path: _Path) -> Any:
        if MARK not in items and all(type(key) is str and _is_unicode(key) for key in items):
            return {key: self.mark(item, (*path, key)) for key, item in items.items()}
        if self.places is not None and any(isinstance(key, str) and type(key) is not str for key in items):
            self.places.note((*path, "<key>"))
            return self._dict({_plain_key(key): item for key, item in items.items()}, path)
        pairs = [
            [self._member(key, (*path, "<key>")), self.mark(item, (*path, _step(key)))] for key, item in items.items()
        ]
        return {MARK: "dict", "value": pairs}

    def _member(self, value: object, path: _Path) -> Any:
        known = 0 if self.places is None else self.places.count
        tree = self.mark(value, path)
        if self.places is not None and self.places.count > known:
            try:
                hash(self.unmark(tree))
            except Exception as exc:
                if is_interrupt(exc):
                    raise
                raise self.refusal(value, path) from exc
        return tree

    def _surrogates(self, text: str) -> dict[str, Any]:
        return {MARK: "str", "value": self.data(text.encode("utf-8", "surrogatepass"))}

    def _is_too_long(self, value: object) -> bool:
        return type(value) is int and (value not in _INT_64 if self._binary else not fits(value))


def where(path: _Path) -> str:
    """Return a place inside of a value as text."""
    return "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if _NAME.match(part) else f"[{part!r}]" for part in path
    )


def _plain_key(key: Any) -> Any:
    return str.__str__(key) if isinstance(key, str) else key


def _step(key: object) -> str:
    return key if type(key) is str else Texts(_MAX_PLACE).of(key)


def _is_unicode(text: str) -> bool:
    """Tell whether a string has no surrogates, of which a JSON reader would join two to another character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_items(marks: Marks, value: Any, path: _Path) -> dict[str, Any]:
    return {"value": marks.items(value, path)}


def _of_members(marks: Marks, value: Any, path: _Path) -> dict[str, Any]:
    return {"value": marks.members(value, path)}


def _of_data(marks: Marks, value: Any, _: _Path) -> dict[str, Any]:
    return {"value": marks.data(bytes(value))}


def _of_text(marks: Marks, value: Any, _: _Path) -> dict[str, Any]:
    return {"value": str(value)}


def _of_datetime(marks: Marks, value: dt.datetime | dt.time, path: _Path) -> dict[str, Any]:
    zone = value.tzinfo
    if zone is None or isinstance(zone, dt.timezone):
        named = {}
    elif isinstance(zone, ZoneInfo) and zone.key:
        # The offset alone would forget the zone's rules.
        named = {"zone": zone.key}
        value = value.replace(tzinfo=None)
    else:
        named = {}
        value = _at_offset(marks, value, (*path, "tzinfo"))
    return {"value": value.isoformat(), **named, **({"fold": 1} if value.fold else {})}


def _at_offset(marks: Marks, value: dt.datetime | dt.time, path: _Path) -> dt.datetime | dt.time:
    """Return a time with the offset that its zone has then; without a zone where that depends on a date."""
    if marks.places is None:
        raise marks.refusal(value.tzinfo, path)
    try:
        offset = value.utcoffset()
    except Exception as exc:  # a zone may be any class of an application
        if is_interrupt(exc):
            raise
        raise marks.refusal(value.tzinfo, path) from exc
    marks.places.note(path)
    return value.replace(tzinfo=None if offset is None else dt.timezone(offset), fold=0)


_ENCODERS: Final[dict[type, Callable[[Marks, Any, _Path], dict[str, Any]]]] = {
    tuple: _of_items,
    set: _of_members,
    frozenset: _of_members,
    bytes: _of_data,
    bytearray: _of_data,
    dt.datetime: _of_datetime,
    dt.date: _of_text,
    dt.time: _of_datetime,
    dt.timedelta: lambda marks, value, _: {"value": [value.days, value.seconds, value.microseconds]},
    uuid.UUID: _of_text,
    Decimal: _of_text,
    complex: lambda marks, value, _: {"value": [repr(value.real), repr(value.imag)]},
}


def _to_datetime(kind: type[dt.datetime | dt.time]) -> Callable[[Marks, dict[str, Any]], Any]:
    def decode(marks: Marks, marked: dict[str, Any]) -> Any:
        value = kind.fromisoformat(marked["value"])
        if "zone" in marked:
            value = value.replace(tzinfo=ZoneInfo(marked["zone"]))
        return value.replace(fold=marked.get("fold", 0))

    return decode


_DECODERS: Final[dict[str, Callable[[Marks, dict[str, Any]], Any]]] = {
    "dict": lambda marks, m: {marks.unmark(key): marks.unmark(item) for key, item in m["value"]},
    "str": lambda marks, m: marks.undata(m["value"]).decode("utf-8", "surrogatepass"),
    "int": lambda marks, m: int(m["value"], 16),
    "float": lambda marks, m: float(m["value"]),
    "tuple": lambda marks, m: tuple(map(marks.unmark, m["value"])),
    "set": lambda marks, m: set(map(marks.unmark, m["value"])),
    "frozenset": lambda marks, m: frozenset(map(marks.unmark, m["value"])),
    "bytes": lambda marks, m: marks.undata(m["value"]),
    "bytearray": lambda marks, m: bytearray(marks.undata(m["value"])),
    "datetime": _to_datetime(dt.datetime),
    "date": lambda marks, m: dt.date.fromisoformat(m["value"]),
    "time": _to_datetime(dt.time),
    "timedelta": lambda marks, m: dt.timedelta(*m["value"]),
    "UUID": lambda marks, m: uuid.UUID(m["value"]),
    "Decimal": lambda marks, m: Decimal(m["value"]),
    "complex": lambda marks, m: complex(*map(float, m["value"])),
    "registered": lambda marks, m: restore(Registered(m["by"], marks.unmark(m["value"]))),
}
