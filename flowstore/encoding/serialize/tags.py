"""Type tags: representing any value in the types of a format.

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

from flowstore.encoding.serialize.conversion import UNSUPPORTED, RegisteredValue, convert, restore, suggestion
from flowstore.errors import SerializationError
from flowstore.interrupts import is_interrupt
from flowstore.texts import TextBudget, is_decimal_safe

TAG: Final = "$type"
SCALARS: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
"""Types that every format has, except for long integers and lone surrogates."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_INT_64: Final = range(-(2**63), 2**64)

_Path = tuple["str | int", ...]
_MAX_PATHS: Final = 20
_MAX_PATH: Final = 200


class ConvertedPaths:
    """Collect the paths of values that are stored as another type."""

    def __init__(self) -> None:
        self.count = 0
        self._noted: list[str] = []

    def note(self, path: _Path) -> None:
        self.count += 1
        if self.count <= _MAX_PATHS:
            self._noted.append(where(path)[:_MAX_PATH])

    def shown(self) -> list[str]:
        """Return the first paths, and ``…`` for all others."""
        return self._noted if self.count <= _MAX_PATHS else [*self._noted, "…"]


class Tagger:
    """Convert values to trees with type tags, and back.

    Trees consist of scalars, lists, and dicts with string keys.

    Args:
        form: the name of the format, for messages.
        binary: whether the format has bytes, all floats, and only integers of 64 bits; otherwise it has finite floats,
            and integers of any size.
        converted: collects the paths of values stored as another type; without it, these are refused.
    """

    def __init__(self, form: str, *, binary: bool, converted: ConvertedPaths | None = None) -> None:
        self._form = form
        self._binary = binary
        self.converted = converted

    def tag(self, value: object, path: _Path = ()) -> Any:
        """Return the tree of a value.

        Raises:
            SerializationError: a part of it can't be stored; names its path and type.
        """
        kind = type(value)
        if isinstance(value, str) and kind is str:
            return value if _is_unicode(value) else self._surrogates(value)
        if kind in SCALARS:
            return {TAG: "int", "value": f"{value:x}"} if self._is_too_long(value) else value
        if kind is float:
            fits = self._binary or math.isfinite(value)  # type: ignore[arg-type]
            return value if fits else {TAG: "float", "value": repr(value)}
        if kind is bytes and self._binary:
            return value
        if kind is list:
            return self.items(value, path)  # type: ignore[arg-type]
        if kind is dict:
            return self._dict(value, path)  # type: ignore[arg-type]
        encode = _ENCODERS.get(kind)
        if encode is None:
            return self._flattened(value, path)
        return {TAG: kind.__name__, **encode(self, value, path)}

    def untag(self, tree: Any) -> Any:
        """Return the value of a tree.

        Raises whatever the types' constructors raise for a tree that ``tag`` never returns.
        """
        if type(tree) is list:
            return [self.untag(item) for item in tree]
        if type(tree) is not dict:
            return tree
        if TAG not in tree:
            return {key: self.untag(item) for key, item in tree.items()}
        return _DECODERS[tree[TAG]](self, tree)

    def items(self, values: Iterable[object], path: _Path) -> list[Any]:
        return [self.tag(value, (*path, index)) for index, value in enumerate(values)]

    def data(self, data: bytes) -> Any:
        return data if self._binary else base64.b64encode(data).decode()

    def undata(self, data: Any) -> bytes:
        if not self._binary:
            return base64.b64decode(data, validate=True)
        if type(data) is not bytes:
            raise TypeError(f"{type(data).__name__} instead of bytes")
        return data

    def members(self, values: Iterable[object], path: _Path) -> list[Any]:
        """Tag the items of a set, which have to be hashable when decoded."""
        return [self._member(value, (*path, index)) for index, value in enumerate(values)]

    def refusal(self, value: object, path: _Path) -> SerializationError:
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        place = where(path)
        message = f"can't store {place}: a value of type {name} has no {self._form} form{suggestion(kind)}"
        return SerializationError(message, place, name)

    def _flattened(self, value: object, path: _Path) -> Any:
        if self.converted is None:
            raise self.refusal(value, path)
        try:
            flat = convert(value)
        except SerializationError as exc:
            raise SerializationError(f"can't store {where(path)}: {exc}", where(path), type(value).__name__) from exc
        if flat is UNSUPPORTED:
            raise self.refusal(value, path)
        self.converted.note(path)
        if isinstance(flat, RegisteredValue):
            return {TAG: "registered", "by": flat.library, "value": self.tag(flat.data, path)}
        return self.tag(flat, path)

    def _dict(self, items: dict[Any, Any], path: _Path) -> Any:
        if TAG not in items and all(type(key) is str and _is_unicode(key) for key in items):
            return {key: self.tag(item, (*path, key)) for key, item in items.items()}
        if self.converted is not None and any(isinstance(key, str) and type(key) is not str for key in items):
            self.converted.note((*path, "<key>"))
            return self._dict({_plain_key(key): item for key, item in items.items()}, path)
        pairs = [
            [self._member(key, (*path, "<key>")), self.tag(item, (*path, _step(key)))] for key, item in items.items()
        ]
        return {TAG: "dict", "value": pairs}

    def _member(self, value: object, path: _Path) -> Any:
        known = 0 if self.converted is None else self.converted.count
        tree = self.tag(value, path)
        if self.converted is not None and self.converted.count > known:
            try:
                hash(self.untag(tree))
            except Exception as exc:
                if is_interrupt(exc):
                    raise
                raise self.refusal(value, path) from exc
        return tree

    def _surrogates(self, text: str) -> dict[str, Any]:
        return {TAG: "str", "value": self.data(text.encode("utf-8", "surrogatepass"))}

    def _is_too_long(self, value: object) -> bool:
        return type(value) is int and (value not in _INT_64 if self._binary else not is_decimal_safe(value))


def where(path: _Path) -> str:
    """Return a path in a value as text."""
    return "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if _NAME.match(part) else f"[{part!r}]" for part in path
    )


def _plain_key(key: Any) -> Any:
    return str.__str__(key) if isinstance(key, str) else key


def _step(key: object) -> str:
    return key if type(key) is str else TextBudget(_MAX_PATH).str_of(key)


def _is_unicode(text: str) -> bool:
    """Return whether a string has no surrogates.

    JSON parsers would join two of them into another character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_items(tagger: Tagger, value: Any, path: _Path) -> dict[str, Any]:
    return {"value": tagger.items(value, path)}


def _of_members(tagger: Tagger, value: Any, path: _Path) -> dict[str, Any]:
    return {"value": tagger.members(value, path)}


def _of_data(tagger: Tagger, value: Any, _: _Path) -> dict[str, Any]:
    return {"value": tagger.data(bytes(value))}


def _of_text(tagger: Tagger, value: Any, _: _Path) -> dict[str, Any]:
    return {"value": str(value)}


def _of_datetime(tagger: Tagger, value: dt.datetime | dt.time, path: _Path) -> dict[str, Any]:
    zone = value.tzinfo
    if zone is None or isinstance(zone, dt.timezone):
        named = {}
    elif isinstance(zone, ZoneInfo) and zone.key:
        # The offset alone would lose the zone's rules.
        named = {"zone": zone.key}
        value = value.replace(tzinfo=None)
    else:
        named = {}
        value = _at_offset(tagger, value, (*path, "tzinfo"))
    return {"value": value.isoformat(), **named, **({"fold": 1} if value.fold else {})}


def _at_offset(tagger: Tagger, value: dt.datetime | dt.time, path: _Path) -> dt.datetime | dt.time:
    """Replace the zone by its offset; drop it if that needs a date."""
    if tagger.converted is None:
        raise tagger.refusal(value.tzinfo, path)
    try:
        offset = value.utcoffset()
    except Exception as exc:  # a zone may be any class of the application
        if is_interrupt(exc):
            raise
        raise tagger.refusal(value.tzinfo, path) from exc
    tagger.converted.note(path)
    return value.replace(tzinfo=None if offset is None else dt.timezone(offset), fold=0)


_ENCODERS: Final[dict[type, Callable[[Tagger, Any, _Path], dict[str, Any]]]] = {
    tuple: _of_items,
    set: _of_members,
    frozenset: _of_members,
    bytes: _of_data,
    bytearray: _of_data,
    dt.datetime: _of_datetime,
    dt.date: _of_text,
    dt.time: _of_datetime,
    dt.timedelta: lambda tagger, value, _: {"value": [value.days, value.seconds, value.microseconds]},
    uuid.UUID: _of_text,
    Decimal: _of_text,
    complex: lambda tagger, value, _: {"value": [repr(value.real), repr(value.imag)]},
}


def _to_datetime(kind: type[dt.datetime | dt.time]) -> Callable[[Tagger, dict[str, Any]], Any]:
    def decode(tagger: Tagger, tagged: dict[str, Any]) -> Any:
        value = kind.fromisoformat(tagged["value"])
        if "zone" in tagged:
            value = value.replace(tzinfo=ZoneInfo(tagged["zone"]))
        return value.replace(fold=tagged.get("fold", 0))

    return decode


_DECODERS: Final[dict[str, Callable[[Tagger, dict[str, Any]], Any]]] = {
    "dict": lambda tagger, m: {tagger.untag(key): tagger.untag(item) for key, item in m["value"]},
    "str": lambda tagger, m: tagger.undata(m["value"]).decode("utf-8", "surrogatepass"),
    "int": lambda tagger, m: int(m["value"], 16),
    "float": lambda tagger, m: float(m["value"]),
    "tuple": lambda tagger, m: tuple(map(tagger.untag, m["value"])),
    "set": lambda tagger, m: set(map(tagger.untag, m["value"])),
    "frozenset": lambda tagger, m: frozenset(map(tagger.untag, m["value"])),
    "bytes": lambda tagger, m: tagger.undata(m["value"]),
    "bytearray": lambda tagger, m: bytearray(tagger.undata(m["value"])),
    "datetime": _to_datetime(dt.datetime),
    "date": lambda tagger, m: dt.date.fromisoformat(m["value"]),
    "time": _to_datetime(dt.time),
    "timedelta": lambda tagger, m: dt.timedelta(*m["value"]),
    "UUID": lambda tagger, m: uuid.UUID(m["value"]),
    "Decimal": lambda tagger, m: Decimal(m["value"]),
    "complex": lambda tagger, m: complex(*map(float, m["value"])),
    "registered": lambda tagger, m: restore(RegisteredValue(m["by"], tagger.untag(m["value"]))),
}
