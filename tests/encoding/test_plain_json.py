"""What is stored as plain JSON: the quick look at a value says the same as a walk through its parts."""

from __future__ import annotations

import math
import uuid
from collections import OrderedDict
from enum import IntEnum
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from flowstore.encoding.serialize.json import PLAIN, dumps, is_plain, loads
from flowstore.encoding.serialize.tags import TAG
from flowstore.errors import SerializationError


class Colour(IntEnum):
    RED = 1


class Text(str):
    pass


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from([TAG, "null", Text("a"), Colour.RED, uuid.UUID(int=1), (), (1,), {1}, b"", OrderedDict(a=1)])
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from([TAG, Text("a"), 1, None])
VALUES = st.recursive(LEAVES, lambda some: st.lists(some, max_size=4) | st.dictionaries(KEYS, some, max_size=4))


@given(VALUES)
@example([1.5, None, math.nan])
@example([[{"a": [1.5]}, None], [[math.inf]]])
@example([None, math.nan])
@example([None, -math.nan])
@example([None, -math.inf, 1.0])
@example([None, 1.7976931348623157e308, -1.7976931348623157e308])
@example([TAG, {"a": {TAG: 1}}])
@example([[[{"a": (1,)}]]])
@example({"a": {Text("b"): 1}})
def test_plain_is_what_a_walk_through_all_parts_calls_plain(value: Any) -> None:
    try:
        payload, serializer = dumps(value)
    except SerializationError:
        assert not is_plain(value)
        return
    assert (serializer == PLAIN) == is_plain(value)
    if serializer == PLAIN:
        assert payload == orjson.dumps(value)
        assert loads(payload) == value
