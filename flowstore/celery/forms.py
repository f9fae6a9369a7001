"""Store values of Celery's own types and of types registered with kombu."""

from __future__ import annotations

import json
from typing import Any, Final

from celery.result import ResultBase
from kombu.utils.json import JSONEncoder, dumps, loads

from flowstore.encoding.serialize import UNSUPPORTED, Converter, RegisteredValue, register_converter

_KOMBU: Final = "kombu"
_ENVELOPE: Final = {"__type__", "__value__"}
_encoder: Final = JSONEncoder()


def install() -> None:
    """Register these types for serialization in this process."""
    register_converter(_KOMBU, Converter(_flatten, _restore))


def _flatten(value: object) -> object:
    if isinstance(value, ResultBase):
        return _as_lists(value.as_tuple())
    try:
        form = _encoder.default(value)
    except TypeError:
        return UNSUPPORTED
    if isinstance(form, dict) and form.keys() == _ENVELOPE:
        # The encoded value may hold more such values; kombu's decoder expects the text that kombu makes of all.
        return RegisteredValue(_KOMBU, json.loads(dumps(value)))
    return form


def _restore(data: Any) -> Any:
    return loads(json.dumps(data))


def _as_lists(parts: Any) -> Any:
    return [_as_lists(part) for part in parts] if isinstance(parts, tuple | list) else parts
