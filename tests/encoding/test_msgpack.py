"""What only msgpack does: bytes and all floats as they are, and a form that any reader of msgpack knows."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest

from flowstore import Key, Ref
from flowstore.encoding.pipeline import Pipeline
from flowstore.record import RESULT

REF = Ref(RESULT, Key("flow", "task", "id"))
PIPELINE = Pipeline("msgpack")


@pytest.mark.parametrize(
    "value", [None, True, -(2**63), 2**64 - 1, 1.5, math.inf, "text", b"bytes", [1, [b"x"]], {"a": {"b": [None]}}]
)
def test_what_msgpack_has_is_written_as_it_is(value: Any) -> None:
    record = PIPELINE.encode(REF, value)
    assert record.headers["serializer"] == "msgpack"
    assert record.headers["content_type"] == "application/vnd.msgpack"
    assert msgpack.unpackb(record.payload) == value
    assert not record.is_json


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, 2**64, -(2**63) - 1, "\ud800", bytearray(b"x"), {"$type": 1}])
def test_what_it_has_not_is_marked(value: Any) -> None:
    record = PIPELINE.encode(REF, value)
    assert record.headers["serializer"] == "msgpack-typed"
    assert "$type" in msgpack.unpackb(record.payload)
    back = PIPELINE.decode(record)
    assert back == value
    assert type(back) is type(value)


def test_bytes_take_their_own_length() -> None:
    data = bytes(range(256)) * 100
    assert len(PIPELINE.encode(REF, {"data": data}).payload) < len(data) + 20


def test_it_is_shown_as_json() -> None:
    assert PIPELINE.as_json(PIPELINE.encode(REF, {"a": (1,)})) == b'{"a":{"$type":"tuple","value":[1]}}'
