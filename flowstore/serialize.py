"""Values to bytes and back.

Plain JSON values (``None``, booleans, numbers, strings, lists, dicts with string keys) become plain JSON, so that the
database's own tools can read them. Any other supported value becomes JSON with marked parts::

    (1, {2})  ->  {"$type": "tuple", "value": [1, {"$type": "set", "value": [2]}]}

Every supported value comes back equal and of the same type; what can't is refused, with its place. No class is ever
imported because stored data names it.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
import uuid
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from flowstore.errors import CorruptError, SerializationError

PLAIN: Final = "json"
TYPED: Final = "json-typed"

_MARK: Final = "$type"
_SCALARS: Final = frozenset({str, int, bool, type(None)})
_CONTAINERS: Final = frozenset({list, dict})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_Path = tuple["str | int", ...]


def dumps(value: object) -> tuple[bytes, str]:
    """Encode a value.

    Returns:
        The bytes, and the name of the serializer that ``loads`` needs to read them.

    Raises:
        SerializationError: a part of the value has no faithful form; names its path and type.
    """
    try:
        if _is_plain(value):
            try:
                return orjson.dumps(value), PLAIN
            except (TypeError, ValueError):
                pass  # an integer over 64 bits, a lone surrogate, deep nesting: the other form can hold the first two
        return json.dumps(_marked(value, ()), separators=(",", ":"), allow_nan=False).encode(), TYPED
    except RecursionError:
        raise SerializationError("the value is nested too deeply to be stored, or contains itself") from None


def loads(payload: bytes, serializer: str) -> Any:
    """Decode bytes by the serializer named in their record.

    Raises:
        CorruptError: the bytes are not what that serializer writes, or the serializer is unknown.
    """
    try:
        if serializer == PLAIN:
            return orjson.loads(payload)
        if serializer == TYPED:
            return _unmarked(json.loads(payload))
    except MemoryError:
        raise
    except Exception as exc:  # what the constructors of the values raise at what they can't take
        raise CorruptError(f"the stored value is not what the serializer {serializer!r} writes: {exc}") from exc
    raise CorruptError(f"the value was stored with the serializer {serializer!r}, which is not known here")


def _is_plain(value: object) -> bool:
    kind = type(value)
    if kind is dict:
        if set(map(type, value)) - {str} or _MARK in value:  # type: ignore[call-overload, operator]
            return False
        return _all_plain(value.values())  # type: ignore[attr-defined]
    if kind is list:
        return _all_plain(value)  # type: ignore[arg-type]
    return kind in _SCALARS or (kind is float and math.isfinite(value))  # type: ignore[arg-type]


def _all_plain(values: Collection[object]) -> bool:
    # One set of types a container keeps the loop over its scalars in C.
    others = set(map(type, values)) - _SCALARS
    if not others:
        return True
    if not others <= {float, list, dict}:
        return False
    if float in others and not all(math.isfinite(v) for v in values if type(v) is float):
        return False
    return not others & _CONTAINERS or all(_is_plain(v) for v in values if type(v) in _CONTAINERS)


def _marked(value: object, path: _Path) -> Any:
    kind = type(value)
    if isinstance(value, str) and kind is str:
        return value if _is_unicode(value) else {_MARK: "str", "value": _base64(value.encode("utf-8", "surrogatepass"))}
    if kind in _SCALARS:
        return value
    if kind is float:
        return value if math.isfinite(value) else {_MARK: "float", "value": repr(value)}  # type: ignore[arg-type]
    if kind is list:
        return _marked_items(value, path)  # type: ignore[arg-type]
    if kind is dict:
        items: dict[Any, Any] = value  # type: ignore[assignment]
        if _MARK not in items and all(type(key) is str and _is_unicode(key) for key in items):
            return {key: _marked(item, (*path, key)) for key, item in items.items()}
        pairs = [[_marked(key, (*path, "<key>")), _marked(item, (*path, str(key)))] for key, item in items.items()]
        return {_MARK: "dict", "value": pairs}
    encode = _ENCODERS.get(kind)
    if encode is None:
        raise _refusal(value, path)
    return {_MARK: kind.__name__, **encode(value, path)}


def _marked_items(values: Iterable[object], path: _Path) -> list[Any]:
    return [_marked(value, (*path, index)) for index, value in enumerate(values)]


def _is_unicode(text: str) -> bool:
    """Tell whether a string has no surrogates, of which a JSON reader would join two to another character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _of_items(values: Any, path: _Path) -> dict[str, Any]:
    return {"value": _marked_items(values, path)}


def _of_datetime(value: dt.datetime | dt.time, path: _Path) -> dict[str, Any]:
    zone = value.tzinfo
    if zone is None or isinstance(zone, dt.timezone):
        named = {}
    elif isinstance(zone, ZoneInfo) and zone.key:
        # The offset alone would forget the zone's rules.
        named = {"zone": zone.key}
        value = value.replace(tzinfo=None)
    else:
        raise _refusal(zone, (*path, "tzinfo"))
    return {"value": value.isoformat(), **named, **({"fold": 1} if value.fold else {})}


_ENCODERS: Final[dict[type, Callable[[Any, _Path], dict[str, Any]]]] = {
    tuple: _of_items,
    set: _of_items,
    frozenset: _of_items,
    bytes: lambda value, _: {"value": _base64(value)},
    bytearray: lambda value, _: {"value": _base64(value)},
    dt.datetime: _of_datetime,
    dt.date: lambda value, _: {"value": value.isoformat()},
    dt.time: _of_datetime,
    dt.timedelta: lambda value, _: {"value": [value.days, value.seconds, value.microseconds]},
    uuid.UUID: lambda value, _: {"value": str(value)},
    Decimal: lambda value, _: {"value": str(value)},
    complex: lambda value, _: {"value": [repr(value.real), repr(value.imag)]},
}


def _unmarked(value: Any) -> Any:
    if type(value) is list:
        return [_unmarked(item) for item in value]
    if type(value) is not dict:
        return value
    if _MARK not in value:
        return {key: _unmarked(item) for key, item in value.items()}
    return _DECODERS[value[_MARK]](value)


def _to_datetime(kind: type[dt.datetime | dt.time]) -> Callable[[dict[str, Any]], Any]:
    def decode(marked: dict[str, Any]) -> Any:
        value = kind.fromisoformat(marked["value"])
        if "zone" in marked:
            value = value.replace(tzinfo=ZoneInfo(marked["zone"]))
        return value.replace(fold=marked.get("fold", 0))

    return decode


_DECODERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "dict": lambda m: {_unmarked(key): _unmarked(item) for key, item in m["value"]},
    "str": lambda m: base64.b64decode(m["value"], validate=True).decode("utf-8", "surrogatepass"),
    "float": lambda m: float(m["value"]),
    "tuple": lambda m: tuple(map(_unmarked, m["value"])),
    "set": lambda m: set(map(_unmarked, m["value"])),
    "frozenset": lambda m: frozenset(map(_unmarked, m["value"])),
    "bytes": lambda m: base64.b64decode(m["value"], validate=True),
    "bytearray": lambda m: bytearray(base64.b64decode(m["value"], validate=True)),
    "datetime": _to_datetime(dt.datetime),
    "date": lambda m: dt.date.fromisoformat(m["value"]),
    "time": _to_datetime(dt.time),
    "timedelta": lambda m: dt.timedelta(*m["value"]),
    "UUID": lambda m: uuid.UUID(m["value"]),
    "Decimal": lambda m: Decimal(m["value"]),
    "complex": lambda m: complex(*map(float, m["value"])),
}


def _refusal(value: object, path: _Path) -> SerializationError:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    where = "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if _NAME.match(part) else f"[{part!r}]" for part in path
    )
    hint = _hint(kind)
    return SerializationError(f"can't store {where}: a value of type {name} has no JSON form{hint}", where, name)


def _hint(kind: type) -> str:
    if hasattr(kind, "__dataclass_fields__"):
        return "; return dataclasses.asdict(...) of it"
    if hasattr(kind, "model_dump"):
        return "; return its .model_dump()"
    for base in (dict, list, tuple, str, bytes, int, float, set):
        if issubclass(kind, base):
            return f"; it would not come back as that subclass of {base.__name__}: return {base.__name__}(...) of it"
    return ""
