"""Values of other types come back as the nearest type that is kept, and say where; ``strict`` refuses them."""

from __future__ import annotations

import asyncio
import collections
import datetime as dt
import enum
import sys
import uuid
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy
import pandas
import pytest
from dateutil import tz  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from flowstore import FlowStore, Key
from flowstore.encoding.pipeline import Pipeline
from flowstore.encoding.serialize import PLAIN, Converter, RegisteredValue, register_converter
from flowstore.errors import ConfigurationError, CorruptError, SerializationError
from flowstore.record import RESULT, Ref
from tests.encoding.test_serialize import same
from tests.encoding.test_serialize import values as kept_values

REF = Ref(RESULT, Key("flow", "task", "1"))
IN_2024 = dt.datetime(2024, 7, 1, 12, 30, 1, 5)  # noqa: DTZ001 - the tests add the zones


class Point(NamedTuple):
    x: int
    y: Any


class Level(enum.IntEnum):
    HIGH = 3


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Choices(str, enum.Enum):  # noqa: UP042 - as Django's TextChoices
    RED = "red"


class Colour(enum.Enum):
    RED = 1


class Text(str):
    def __str__(self) -> str:
        return "another text"


class Attributes(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


class Odd(list[Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("no parts")


class Long(int):
    pass


class Share(float):
    pass


class Blob(bytes):
    pass


class Buffer(bytearray):
    pass


class Unique(set[Any]):
    pass


class Fixed(frozenset[Any]):
    pass


class When(dt.datetime):
    pass


class Day(dt.date):
    pass


class Hour(dt.time):
    pass


class Span(dt.timedelta):
    pass


class Money(Decimal):
    pass


class Id(uuid.UUID):
    pass


class Json:
    def __init__(self, form: Any) -> None:
        self.form = form

    def __json__(self) -> Any:
        return self.form


class Offset(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta | None:
        return dt.timedelta(hours=1)

    def dst(self, when: dt.datetime | None) -> None:
        return None

    def tzname(self, when: dt.datetime | None) -> None:
        return None


class NoOffset(Offset):
    def utcoffset(self, when: dt.datetime | None) -> None:
        return None


class BrokenOffset(Offset):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        raise RuntimeError("no offset")


ID = uuid.UUID(int=5)
EAST, SUMMER = dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(hours=2))

FLATTENED: dict[str, tuple[Any, Any]] = {
    "OrderedDict": (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "defaultdict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "Counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "dict subclass": (Attributes(a=1), {"a": 1}),
    "namedtuple": (Point(1, Point(2, 3)), (1, (2, 3))),
    "IntEnum": (Level.HIGH, 3),
    "IntFlag": (Access.READ | Access.WRITE, 3),
    "StrEnum": (Mode.FAST, "fast"),
    "str enumeration": (Choices.RED, "red"),
    "str subclass": (Text("x"), "x"),
    "str subclass, a surrogate": (Text("\udce9"), "\udce9"),
    "list subclass": (Odd([1, 2]), [1, 2]),
    "int subclass": (Long(5), 5),
    "int subclass, long": (Long(10**5000), 10**5000),
    "float subclass": (Share(0.5), 0.5),
    "bytes subclass": (Blob(b"\xff"), b"\xff"),
    "bytearray subclass": (Buffer(b"\xff"), bytearray(b"\xff")),
    "set subclass": (Unique({1}), {1}),
    "frozenset subclass": (Fixed({1}), frozenset({1})),
    "datetime subclass": (
        When(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        IN_2024.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=ZoneInfo("Europe/Berlin")),
    ),
    "date subclass": (Day(2024, 7, 1), dt.date(2024, 7, 1)),
    "time subclass": (Hour(1, 2), dt.time(1, 2)),
    "timedelta subclass": (Span(1, 2, 3), dt.timedelta(1, 2, 3)),
    "Decimal subclass": (Money("1.10"), Decimal("1.10")),
    "UUID subclass": (Id(int=5), ID),
    "dateutil's tzutc": (IN_2024.replace(tzinfo=tz.tzutc()), IN_2024.replace(tzinfo=dt.UTC)),
    "dateutil's tzfile": (IN_2024.replace(tzinfo=tz.gettz("Europe/Berlin")), IN_2024.replace(tzinfo=SUMMER)),
    "a zone of one's own": (IN_2024.replace(tzinfo=Offset()), IN_2024.replace(tzinfo=EAST)),
    "a zone without an offset": (IN_2024.replace(tzinfo=NoOffset()), IN_2024),
    "a time in a zone of one's own": (dt.time(1, tzinfo=Offset()), dt.time(1, tzinfo=EAST)),
    "a time in dateutil's tzfile": (dt.time(1, tzinfo=tz.gettz("Europe/Berlin")), dt.time(1)),
    "__json__": (Json({"a": (1, Json(2))}), {"a": (1, 2)}),
    "numpy.float64": (numpy.float64(0.5), 0.5),
    "numpy.float32": (numpy.float32(0.5), 0.5),
    "numpy.int64": (numpy.int64(5), 5),
    "numpy.uint8": (numpy.uint8(5), 5),
    "numpy.bool": (numpy.bool_(True), True),
    "numpy.str_": (numpy.str_("a"), "a"),
    "numpy.bytes_": (numpy.bytes_(b"a"), b"a"),
    "numpy.complex64": (numpy.complex64(1j), 1j),
    "numpy.complex128": (numpy.complex128(1j), 1j),
    "numpy.datetime64": (numpy.datetime64("2024-07-01T12:30:01.000005123"), IN_2024),
    "numpy.datetime64, no time": (numpy.datetime64("NaT"), None),
    "numpy.timedelta64": (numpy.timedelta64(1500, "ms"), dt.timedelta(seconds=1.5)),
    "pandas.Timestamp": (pandas.Timestamp("2024-07-01T12:30:01.000005123"), IN_2024),
    "pandas.Timestamp with a zone": (
        pandas.Timestamp("2024-07-01T12:30:01.000005", tz="Europe/Berlin"),
        IN_2024.replace(tzinfo=ZoneInfo("Europe/Berlin")),
    ),
    "pandas.Timedelta": (pandas.Timedelta("1.5s"), dt.timedelta(seconds=1.5)),
    "pandas.NaT": (pandas.NaT, None),
    "keys that are enumerations": ({Choices.RED: 1, Level.HIGH: 2}, {"red": 1, 3: 2}),
    "a key that is a namedtuple": ({Point(1, 2): 1}, {(1, 2): 1}),
    "members that are enumerations": ({Choices.RED}, {"red"}),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "an object": (object(), "object"),
    "a plain enumeration": (Colour.RED, r"return its \.value"),
    "a generator": ((n for n in range(3)), r"return list\(\.\.\.\)"),
    "a map": (map(str, [1]), r"return list\(\.\.\.\)"),
    "a range": (range(3), r"return list\(\.\.\.\)"),
    "an array": (numpy.array([1]), r"return its \.tolist\(\)"),
    "a float that Python has not": (numpy.longdouble(1) / 3, "longdouble"),
    "a time out of range": (numpy.datetime64(2**62, "s"), "datetime64"),
    "a zone whose offset can't be told": (IN_2024.replace(tzinfo=BrokenOffset()), "BrokenOffset"),
    "a class with __json__": (Json, "type"),
    "__json__ that returns its object": (type("Self", (), {"__json__": lambda self: self})(), "contains itself"),
    "__json__ that fails": (type("Fails", (), {"__json__": lambda self: 1 // 0})(), "Fails.*ZeroDivisionError"),
    "a member that can't be hashed": ({type("Frozen", (dict,), {"__hash__": lambda self: 1})()}, "Frozen"),
    "a key that can't be hashed": ({type("Frozen", (dict,), {"__hash__": lambda self: 1})(): 1}, "Frozen"),
    "a key whose text can't be made": ({type("Bad", (), {"__str__": lambda self: 1 / 0})(): 1}, "Bad"),
}

with_each_serializer = pytest.mark.parametrize("serializer", ["json", "msgpack"])


@with_each_serializer
@pytest.mark.parametrize("name", FLATTENED)
def test_a_value_of_another_type_comes_back_as_the_nearest(name: str, serializer: Any) -> None:
    value, nearest = FLATTENED[name]
    for given_, expected in [(value, nearest), ({"rows": [1, value]}, {"rows": [1, nearest]})]:
        pipeline = Pipeline(serializer)
        record = pipeline.encode(REF, given_)
        assert same(pipeline.decode(record), expected)
        assert record.headers["flattened"]
        with pytest.raises(SerializationError):
            Pipeline(serializer, strict=True).encode(REF, given_)


@pytest.mark.parametrize("name", FLATTENED)
def test_pickles_keep_every_type(name: str) -> None:
    value, _ = FLATTENED[name]
    if "own" in name or name == "list subclass":  # not equal to itself, or not to be looked into
        return
    pipeline = Pipeline("pickle")
    record = pipeline.encode(REF, value)
    if "__json__" not in name:
        back = pipeline.decode(record)
        assert type(back) is type(value)
        assert back == value or back != back
    assert "flattened" not in record.headers


@with_each_serializer
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_refused_and_says_what_to_do(name: str, serializer: Any) -> None:
    value, message = REFUSED[name]
    for strict in (False, True):
        with pytest.raises(SerializationError, match="can't store|nested" if strict else message):
            Pipeline(serializer, strict=strict).encode(REF, {"rows": [value]})


async def a_coroutine() -> int:
    return 1


async def gives() -> Any:
    yield 1


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_what_is_not_awaited_is_refused_and_says_what_to_do(serializer: Any) -> None:
    coroutine = a_coroutine()
    for value in (coroutine, gives()):
        with pytest.raises(SerializationError, match=r"asyncio\.run"):
            Pipeline(serializer).encode(REF, value)
    coroutine.close()
    loop = asyncio.new_event_loop()
    with pytest.raises(SerializationError, match=r"asyncio\.run"):
        Pipeline(serializer).encode(REF, loop.create_future())
    loop.close()


@with_each_serializer
@given(kept_values)
def test_what_is_kept_as_it_is_is_not_called_flattened(serializer: Any, value: Any) -> None:
    lenient, strict = Pipeline(serializer).encode(REF, value), Pipeline(serializer, strict=True).encode(REF, value)
    assert "flattened" not in lenient.headers
    assert (lenient.payload, lenient.headers["serializer"]) == (strict.payload, strict.headers["serializer"])


subclasses = st.recursive(
    st.one_of(
        st.text(max_size=5).map(Text),
        st.integers().map(Long),
        st.floats().map(Share),
        st.binary(max_size=3).map(Blob),
        st.sampled_from([Level.HIGH, Mode.FAST, Choices.RED, None, 1, "a"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(Odd),
        st.tuples(st.integers(), inner).map(lambda pair: Point(*pair)),
        st.dictionaries(st.text(max_size=3).map(Text) | st.sampled_from([Choices.RED, 1]), inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
    ),
    max_leaves=8,
)


def bare(value: Any) -> Any:
    """Return a value with the base in the place of each subclass."""
    for base in (str, int, float, bytes):
        if isinstance(value, base) and not isinstance(value, bool):
            return getattr(base, "__str__" if base is str else f"__{base.__name__}__")(value)
    if isinstance(value, dict):
        return {bare(key): bare(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(bare, tuple.__iter__(value)))
    return [bare(item) for item in list.__iter__(value)] if isinstance(value, list) else value


@with_each_serializer
@given(subclasses)
def test_any_subclasses_in_one_another_come_back_as_their_bases(serializer: Any, value: Any) -> None:
    pipeline = Pipeline(serializer)
    record = pipeline.encode(REF, value)
    assert same(pipeline.decode(record), bare(value))
    assert ("flattened" in record.headers) == (not same(value, bare(value)))


def test_a_header_says_where() -> None:
    value = {"rows": [1, Level.HIGH, {"when": IN_2024.replace(tzinfo=Offset())}], "a b": Text("x"), Text("key"): 1}
    headers = Pipeline().encode(REF, value, {"state": "SUCCESS"}).headers
    assert headers["flattened"] == ["$.<key>", "$.rows[1]", "$.rows[2].when.tzinfo", "$['a b']"] or headers[
        "flattened"
    ] == ["$['<key>']", "$.rows[1]", "$.rows[2].when.tzinfo", "$['a b']"]
    assert headers["state"] == "SUCCESS"
    assert Pipeline().encode(REF, Text("x")).headers["flattened"] == ["$"]


def test_the_places_are_bounded() -> None:
    places = Pipeline().encode(REF, {"k" * 10_000: [Text("x")] * 1000}).headers["flattened"]
    assert len(places) == 21
    assert places[-1] == "…"
    assert max(map(len, places)) <= 200


def test_places_of_an_encrypted_value_are_not_told() -> None:
    from flowstore.encoding.codec import Encryption

    pipeline = Pipeline(encryption=Encryption({"k": b"k" * 32}, "k"))
    assert pipeline.encode(REF, {"hunter2": Text("x")}).headers["flattened"] == ["…"]


@with_each_serializer
def test_what_is_plain_once_it_is_flattened_is_stored_plain(serializer: Any) -> None:
    record = Pipeline(serializer).encode(REF, collections.OrderedDict(a=[Text("x"), Level.HIGH]))
    assert record.headers["serializer"] == serializer
    if serializer == PLAIN:
        assert record.payload == b'{"a":["x",3]}'


def test_a_registered_type_is_read_by_its_own_library_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["flowstore.encoding.serialize.conversion"]
    monkeypatch.setattr(module, "_converters", {})

    register_converter(
        "shop", Converter(lambda v: RegisteredValue("shop", [1]) if v is REF else module.UNSUPPORTED, tuple)
    )
    record = Pipeline().encode(REF, {"a": REF})
    assert record.payload == b'{"a":{"$type":"registered","by":"shop","value":[1]}}'
    assert Pipeline().decode(record) == {"a": (1,)}
    assert Pipeline().as_json(record) == record.payload
    monkeypatch.setattr(module, "_converters", {})
    with pytest.raises(CorruptError, match="registered with shop"):
        Pipeline().decode(record)
    assert Pipeline().as_json(record) == record.payload


def test_strict_is_a_key_of_a_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRICT", "yes")
    entry = {"name": "S", "classname": "MemoryStorage"}
    for strict in (False, True, "{STRICT}"):
        store = FlowStore({"storages": [{**entry, "strict": strict}], "global": {"default_storage": "S"}})
        assert store._configuration.storages["S"].strict is (strict is not False)
        if strict:
            with pytest.raises(SerializationError, match="OrderedDict"):
                store.store("flow", "task", "1", collections.OrderedDict(a=1))
        else:
            store.store("flow", "task", "1", collections.OrderedDict(a=1))
            assert same(store.retrieve("flow", "task", "1"), {"a": 1})
    with pytest.raises(ConfigurationError, match="strict"):
        FlowStore({"storages": [{**entry, "strict": "perhaps"}]})


def test_strict_means_nothing_to_an_adapter_that_writes_values_in_its_own_way() -> None:
    entry = {"name": "S", "classname": "PlainStorage", "import": "tests.store.own_adapters", "strict": True}
    with pytest.raises(ConfigurationError, match="does not support this key"):
        FlowStore({"storages": [entry]})


@pytest.mark.parametrize("digits", [600, 4300, 4301, 10**5])
@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_integers_of_any_size_come_back_whatever_limit_python_has(serializer: Any, digits: int) -> None:
    pipeline = Pipeline(serializer)
    number = 10**digits + 7
    value = [number, -number, {number: number}, {"a": number}]
    record = pipeline.encode(REF, value)
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        back = pipeline.decode(record)
    finally:
        sys.set_int_max_str_digits(limit)
    assert (back == value) is True
