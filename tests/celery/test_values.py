"""What a task may return with Celery alone it may return with flowstore, and it comes back as Celery gives it."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import sys
import uuid
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import kombu.utils.json
import numpy
import pandas
import pytest
from celery import Celery, chain, chord, group
from celery.result import EagerResult, result_from_tuple
from dateutil import tz  # type: ignore[import-untyped]
from kombu.utils.json import dumps, loads, register_type

from flowstore import FlowStore
from flowstore.celery import forms
from flowstore.encoding.pipeline import Pipeline
from flowstore.errors import SerializationError
from flowstore.record import RESULT, Key, Ref

REF = Ref(RESULT, Key("flow", "task", "1"))


class Point(NamedTuple):
    x: int
    y: Any


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class Choices(str, enum.Enum):  # noqa: UP042 - as Django's TextChoices
    RED = "red"


class SafeString(str):
    pass


class Attributes(dict[str, Any]):
    pass


class Json:
    def __json__(self) -> Any:
        return {"a": [1, SafeString("x")], "when": dt.date(2024, 1, 1)}


class Lazy:
    """Stands for a translation of Django's that is made when it is read."""

    def __str__(self) -> str:
        return "später"


class Money:
    def __init__(self, amount: int, more: Any) -> None:
        self.amount, self.more = amount, more

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return self.amount


class Bare:
    pass


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    forms.install()
    monkeypatch.setattr(kombu.utils.json, "textual_types", (Lazy,))
    monkeypatch.setattr(kombu.utils.json, "_encoders", dict(kombu.utils.json._encoders))
    monkeypatch.setattr(kombu.utils.json, "_decoders", dict(kombu.utils.json._decoders))
    register_type(
        Money, "money", lambda m: {"amount": m.amount, "more": m.more}, lambda d: Money(d["amount"], d["more"])
    )
    register_type(Bare, None, lambda _: {"bare": [1, 2]})


@pytest.fixture
def app() -> Celery:
    app = Celery("values", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_store_eager_result=True)
    return app


VALUES: dict[str, Any] = {
    "plain": {"a": [1, 1.5, None, True, "x"]},
    "OrderedDict": collections.OrderedDict(b=1, a=[SafeString("x")]),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("aab"),
    "dict subclass": Attributes(a=1),
    "IntEnum": [Level.HIGH],
    "StrEnum": Mode.FAST,
    "str enumeration": {"a": Choices.RED, Choices.RED: 1},
    "SafeString": SafeString("<b>"),
    "__json__": [Json()],
    "a lazy text": {"title": Lazy()},
    "registered": {"price": Money(5, [1, "x"])},
    "registered, with registered parts": Money(5, [Money(6, dt.date(2024, 1, 1)), uuid.UUID(int=5)]),
    "registered without a mark": [Bare()],
    "datetime": dt.datetime(2024, 1, 1, 12),  # noqa: DTZ001
    "datetime, UTC": dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC),
    "datetime, tzutc": dt.datetime(2024, 1, 1, 12, tzinfo=tz.tzutc()),
    "datetime, tzfile": dt.datetime(2024, 7, 1, 12, tzinfo=tz.gettz("Europe/Berlin")),
    "datetime, ZoneInfo": dt.datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    "time, tzutc": dt.time(1, tzinfo=tz.tzutc()),
    "time, tzfile": dt.time(1, tzinfo=tz.gettz("Europe/Berlin")),
    "date": dt.date(2024, 1, 1),
    "Decimal": Decimal("1.10"),
    "UUID": uuid.UUID(int=5),
    "bytes": [b"text", b"\xff"],
    "numpy.float64": [numpy.float64(0.5)],
    "numpy.str_": numpy.str_("a"),
    "numpy.bytes_": numpy.bytes_(b"a"),
    "pandas.Timestamp": pandas.Timestamp("2024-07-01T12:30:01.000005123"),
    "pandas.Timestamp with a zone": pandas.Timestamp("2024-07-01", tz="Europe/Berlin"),
    "a long integer": 10**4000,
}
RICHER: dict[str, tuple[Any, Any]] = {
    "a tuple": ((1, [2]), (1, [2])),
    "a namedtuple": (Point(1, [2]), (1, [2])),
    "keys that are no text": ({1: 2, None: 3, Level.HIGH: 4}, {1: 2, None: 3, 3: 4}),
    "no time of pandas": ([pandas.NaT], [None]),
    "what __json__ gives": (type("Pair", (), {"__json__": lambda _: (1, 2)})(), (1, 2)),
}
"""What flowstore keeps more of than Celery."""


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_from_kombu(name: str, serializer: Any) -> None:
    value = VALUES[name]
    pipeline = Pipeline(serializer)
    back, of_kombu = pipeline.decode(pipeline.encode(REF, value)), loads(dumps(value))
    assert back == of_kombu
    assert type(back) is type(of_kombu)


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("name", RICHER)
def test_a_value_comes_back_richer_than_from_kombu(name: str, serializer: Any) -> None:
    value, richer = RICHER[name]
    dumps(value)  # Celery takes it
    pipeline = Pipeline(serializer)
    back = pipeline.decode(pipeline.encode(REF, value))
    assert back == richer
    assert type(back) is type(richer)


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize("name", [*VALUES, *RICHER])
def test_no_task_fails_that_celery_alone_lets_succeed(app: Celery, name: str, serializer: str) -> None:
    value = VALUES[name] if name in VALUES else RICHER[name][0]
    if serializer == "pickle" and name in ("what __json__ gives",):
        return  # of a class that no module has
    storage = {"name": "S", "classname": "MemoryStorage", "serializer": serializer}
    store = FlowStore({"storages": [storage], "global": {"default_storage": "S"}}, app=app)

    @app.task(name="returns", shared=False)
    def returns() -> Any:
        return value

    result = returns.delay()
    assert result.state == "SUCCESS", result.result
    stored = store.retrieve("returns", "returns", result.id)
    of_celery = app.AsyncResult(result.id).get()
    if name in VALUES and serializer != "pickle":
        assert stored == of_celery


def results(app: Celery) -> dict[str, Any]:
    inner = app.AsyncResult("inner", parent=app.AsyncResult("parent"))
    return {
        "AsyncResult": app.AsyncResult("other"),
        "AsyncResult with parents": inner,
        "GroupResult": app.GroupResult("group", [app.AsyncResult("one"), inner], parent=inner),
        "EagerResult": EagerResult("eager", 1, "SUCCESS", name="t"),
    }


@pytest.mark.parametrize("name", ["AsyncResult", "AsyncResult with parents", "GroupResult", "EagerResult"])
def test_the_result_of_another_task_comes_back_as_celery_gives_it(app: Celery, name: str) -> None:
    store = FlowStore(
        {"storages": [{"name": "S", "classname": "MemoryStorage"}], "global": {"default_storage": "S"}}, app=app
    )
    value = results(app)[name]

    @app.task(name="returns", shared=False)
    def returns() -> Any:
        return value

    result = returns.delay()
    stored = store.retrieve("returns", "returns", result.id)
    assert stored == app.AsyncResult(result.id).get()
    again = result_from_tuple(stored, app=app)
    assert again.as_tuple() == value.as_tuple()


def test_a_signature_comes_back_as_celery_gives_it(app: Celery) -> None:
    store = FlowStore(
        {"storages": [{"name": "S", "classname": "MemoryStorage"}], "global": {"default_storage": "S"}}, app=app
    )

    @app.task(name="other", shared=False)
    def other(x: int) -> int:
        return x

    one = other.s(1)
    canvases = (one, chain(one, one), group(one, one), chord([one, one], one), one.clone().set(countdown=5))
    for number, value in enumerate(canvases):
        name = f"returns {number}"

        def returns(value: Any = value) -> Any:
            return value

        result = app.task(name=name, shared=False)(returns).delay()
        assert result.state == "SUCCESS", result.result
        stored = store.retrieve(name, name, result.id)
        assert loads(dumps(stored)) == app.AsyncResult(result.id).get()
        assert loads(dumps(app.signature(stored))) == loads(dumps(value))


def test_a_strict_storage_refuses_what_would_come_back_otherwise(app: Celery) -> None:
    FlowStore(
        {
            "storages": [{"name": "S", "classname": "MemoryStorage", "strict": True, "on_store_error": "fail"}],
            "global": {"default_storage": "S"},
        },
        app=app,
    )

    @app.task(name="returns", shared=False)
    def returns() -> Any:
        return collections.OrderedDict(a=1)

    result = returns.delay()
    assert result.state == "FAILURE"
    assert isinstance(result.result, SerializationError)


def test_what_is_read_names_no_class_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    record = pipeline.encode(REF, Money(5, None))
    text = record.payload.replace(b'"money"', b'"os.system"')
    monkeypatch.setattr(kombu.utils.json, "_decoders", {})
    before = set(sys.modules)
    for payload in (record.payload, text):
        damaged = pipeline.encode_bytes(REF, payload, {"serializer": "json-typed"})
        with pytest.raises(Exception, match="Unsupported type"):
            pipeline.decode(damaged)
    assert set(sys.modules) == before
