"""Values come back equal and of the same type, or are refused with their place."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import json
import math
import uuid
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.encoding.serialize import PLAIN, TYPED, WRITERS, dumps, loads
from flowstore.errors import CorruptError, SerializationError

in_json_and_msgpack = pytest.mark.parametrize("dumps", [WRITERS["json"], WRITERS["msgpack"]], ids=["json", "msgpack"])

ZONES = [ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("UTC")]
OFFSETS = [dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)), dt.timezone(dt.timedelta(seconds=-3661))]


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal, of the same types all the way down, and in the same order."""
    if type(one) is not type(other):
        return False
    if type(one) is float:
        return bool(one.hex() == other.hex() if one == one else other != other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(same(part, match) for match in other) for part in one)
    if isinstance(one, (dt.datetime, dt.time)):
        bare = one.replace(tzinfo=None), other.replace(tzinfo=None)
        return bool(bare[0] == bare[1]) and (one.fold, one.tzinfo) == (other.fold, other.tzinfo)
    if isinstance(one, Decimal):
        return bool(one.as_tuple() == other.as_tuple())
    return bool(one == other)


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:  # a signalling NaN among the decimals
        return False
    return True


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.text(st.characters(categories=["Cs"]), max_size=3),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
    st.datetimes(timezones=st.none() | st.sampled_from(ZONES) | st.sampled_from(OFFSETS), allow_imaginary=True),
    st.dates(),
    st.times(timezones=st.none() | st.sampled_from(OFFSETS)),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.complex_numbers(),
)
hashable = st.recursive(
    scalars.filter(lambda value: not isinstance(value, bytearray)),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner.filter(is_hashable), max_size=3),
    max_leaves=5,
)


values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=8) | st.sampled_from(["$type", "value"]), inner, max_size=4),
        st.dictionaries(hashable.filter(is_hashable), inner, max_size=3),
        st.sets(hashable.filter(is_hashable), max_size=3),
    ),
    max_leaves=12,
)
plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda key: key != "$type"),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@in_json_and_msgpack
@given(value=values)
def test_every_supported_value_comes_back_equal_and_of_the_same_type(dumps: Any, value: Any) -> None:
    assert same(loads(*dumps(value)), value)


@given(plain_values)
def test_plain_json_is_kept_as_it_is(value: Any) -> None:
    payload, serializer = dumps(value)
    assert serializer == PLAIN
    assert same(json.loads(payload), value)


@given(values)
def test_what_is_written_is_strict_json_in_utf8(value: Any) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(dumps(value)[0].decode(), parse_constant=refuse)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        -0.0,
        5e-324,
        10**400,
        -(2**64),
        "\ud800",
        {"\udfff": "\ud800"},
        {"$type": "tuple", "value": []},
        {"$type": {"$type": 1}},
        {1: "int", "1": "str", None: 0, (1, 2): []},
        {1.5: 2},
        [(), [], {}, set()],
        b"\0\xff",
        Decimal("1.10"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        Decimal("sNaN"),
        complex(-0.0, math.inf),
        dt.timedelta.max,
        dt.date.max,
        dt.date.min,
        dt.time(1, 2, fold=1),
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZONES[0]),
        uuid.UUID(int=0),
        "",
        " ",
        "\0",
        {"": {"": None}},
    ],
)
def test_a_special_value_comes_back(value: Any) -> None:
    assert same(loads(*dumps(value)), value)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class Point(NamedTuple):
    x: int


@dataclasses.dataclass
class Row:
    when: int


class Text(str):
    pass


class Local(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=1)

    def dst(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta()

    def tzname(self, when: dt.datetime | None) -> str:
        return "local"


def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("value", "path", "type_name"),
    [
        (object(), "$", "object"),
        ({"rows": [1, {"when": Row(1)}]}, "$.rows[1].when", "Row"),
        ([Colour.RED], "$[0]", "Colour"),
        ([Level.HIGH], "$[0]", "Level"),
        ({"mode": Mode.FAST}, "$.mode", "Mode"),
        ((1, Point(2)), "$[1]", "Point"),
        ({"a b": Text("x")}, "$['a b']", "Text"),
        ([collections.OrderedDict(a=1)], "$[0]", "OrderedDict"),
        ([collections.defaultdict(int)], "$[0]", "defaultdict"),
        ([collections.deque([1])], "$[0]", "deque"),
        ({"n": range(3)}, "$.n", "range"),
        ([ValueError("x")], "$[0]", "ValueError"),
        ([generator()], "$[0]", "generator"),
        ([dt.datetime(2024, 1, 1, tzinfo=Local())], "$[0].tzinfo", "Local"),
        ({"deep": {"set": {frozenset({Colour.RED})}}}, "$.deep.set[0][0]", "Colour"),
        ({Colour.RED: 1}, "$", "Colour"),
        ([lambda: None], "$[0]", "function"),
        ([int], "$[0]", "type"),
        ([memoryview(b"x")], "$[0]", "memoryview"),
    ],
)
@in_json_and_msgpack
def test_anything_else_is_refused_with_its_place_and_type(dumps: Any, value: Any, path: str, type_name: str) -> None:
    with pytest.raises(SerializationError) as caught:
        dumps(value)
    assert caught.value.path.startswith(path)
    assert caught.value.type_name.rpartition(".")[2] == type_name
    assert path in str(caught.value)
    assert type_name in str(caught.value)


@in_json_and_msgpack
def test_a_refusal_says_what_to_return_instead(dumps: Any) -> None:
    for value, hint in [(Row(1), "dataclasses.asdict"), (Point(1), "tuple(...)"), (Level.HIGH, "int(...)")]:
        with pytest.raises(SerializationError, match=hint.replace("(", r"\(").replace(")", r"\)")):
            dumps(value)


@in_json_and_msgpack
def test_a_refusal_does_not_show_the_value(dumps: Any) -> None:
    with pytest.raises(SerializationError) as caught:
        dumps({"token": Text("hunter2")})
    assert "hunter2" not in str(caught.value)


@in_json_and_msgpack
@pytest.mark.parametrize("depth", [10, 200, 250, 300, 500, 520, 900, 1100, 5000])
def test_nesting_is_kept_or_refused_but_never_fatal(dumps: Any, depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    try:
        payload, serializer = dumps(value)
    except SerializationError as refusal:
        message = str(refusal)
    else:
        message = ""
        assert loads(payload, serializer) == value
    assert ("nested too deeply" in message) == bool(message)


@in_json_and_msgpack
def test_a_value_that_contains_itself_is_refused(dumps: Any) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SerializationError, match="contains itself"):
        dumps(endless)
    ring: dict[str, Any] = {}
    ring["self"] = (ring,)
    with pytest.raises(SerializationError, match="contains itself"):
        dumps(ring)


@pytest.mark.parametrize(
    ("payload", "serializer"),
    [
        (b"", PLAIN),
        (b"{", PLAIN),
        (b"\xff", PLAIN),
        (b"NaN", PLAIN),
        (b"1", "pickle"),
        (b"1", ""),
        (b"{", TYPED),
        (b'{"$type":"os.system","value":"x"}', TYPED),
        (b'{"$type":"tuple"}', TYPED),
        (b'{"$type":"UUID","value":1}', TYPED),
        (b'{"$type":"set","value":[[1]]}', TYPED),
        (b'{"$type":["x"],"value":1}', TYPED),
        (b'{"$type":null,"value":1}', TYPED),
        (b'{"$type":"datetime","value":"x"}', TYPED),
        (b'{"$type":"datetime","value":"2024-01-01","zone":"No/Where"}', TYPED),
        (b'{"$type":"datetime","value":"2024-01-01","zone":"../../etc/passwd"}', TYPED),
        (b'{"$type":"bytes","value":"*"}', TYPED),
        (b'{"$type":"Decimal","value":"x"}', TYPED),
        (b'{"$type":"timedelta","value":[1e99,0,0]}', TYPED),
        (b'{"$type":"dict","value":[[1]]}', TYPED),
        (b'{"$type":"date","value":5}', TYPED),
        (b"[" * 100_000, TYPED),
        (b'{"$type":"datetime","value":"2024-01-01T00:00:00","fold":7}', TYPED),
        (b'{"$type":"float","value":[]}', TYPED),
        (b'{"$type":"tuple","value":5}', TYPED),
        (b"", "msgpack"),
        (b"\xc1", "msgpack"),
        (b"\x01\x01", "msgpack"),
        (b"\xd4\x05x", "msgpack"),
        (b"\xdd\xff\xff\xff\xff", "msgpack"),
        (b"\x91" * 100_000, "msgpack"),
        (b"\x81\xa5$type\xa3set", "msgpack-typed"),
        (b"\x82\xa5$type\xa5bytes\xa5value\xa1x", "msgpack-typed"),
        (b"\x82\xa5$type\xa3int\xa5value\xa1x", "msgpack-typed"),
    ],
)
def test_damaged_bytes_are_reported_as_corrupt(payload: bytes, serializer: str) -> None:
    with pytest.raises(CorruptError):
        loads(payload, serializer)


@given(st.binary(max_size=60), st.sampled_from([PLAIN, TYPED, "msgpack", "msgpack-typed"]))
def test_any_bytes_give_a_value_or_a_corrupt_error(payload: bytes, serializer: str) -> None:
    with suppress(CorruptError):
        loads(payload, serializer)


KINDS = [
    "dict",
    "float",
    "tuple",
    "set",
    "bytes",
    "datetime",
    "date",
    "time",
    "timedelta",
    "UUID",
    "Decimal",
    "complex",
]
marked = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["$type", "value", "zone", "fold"]), inner | st.sampled_from(KINDS), max_size=4
        ),
    ),
    max_leaves=8,
)


@given(marked)
def test_any_marked_json_gives_a_value_or_a_corrupt_error(value: Any) -> None:
    with suppress(CorruptError):
        loads(json.dumps(value).encode(), TYPED)
