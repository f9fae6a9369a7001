"""Connecting: what adapters raise gets one meaning, one line of the log tells where a storage is."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flowstore import (
    ConfigurationError,
    DataStorage,
    FlowStore,
    FlowstoreError,
    Record,
    StorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.record import Page, Query, Ref
from flowstore.storages import MemoryStorage

HERE = __name__


def opened(classname: str, policy: Any = "retry", **arguments: Any) -> FlowStore:
    entry = {"name": "S", "classname": classname, "import": HERE, "configuration": arguments, "on_store_error": policy}
    return FlowStore({"storages": [entry], "global": {"default_storage": "S"}})


class Driver:
    """A driver's errors, by the names of PEP 249."""

    class Error(Exception):
        pass

    class OperationalError(Error):
        pass

    class ProgrammingError(Error):
        pass

    class InvalidSchemaName(ProgrammingError):
        pass


class Failing(DataStorage):
    """The minimum; fails to connect."""

    error: ClassVar[Callable[[], Exception]]
    connects = 0

    def __init__(self, in_constructor: bool = False) -> None:
        if in_constructor:
            raise self.raised()

    def raised(self) -> Exception:
        return type(self).error()

    def connect(self) -> None:
        type(self).connects += 1
        raise self.raised()

    def disconnect(self) -> None: ...

    def is_connected(self) -> bool:
        return False

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any: ...

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> Any: ...


class FailingRecords(MemoryStorage):
    """The full contract; fails to connect, and translates one error."""

    error: ClassVar[Callable[[], Exception]]
    connects = 0

    def __init__(self, in_constructor: bool = False) -> None:
        if in_constructor:
            raise type(self).error()
        super().__init__()

    def connect(self) -> None:
        type(self).connects += 1
        raise type(self).error()

    def _translate(self, exc: Exception) -> StorageError | None:
        return UnsupportedError(f"translated: {exc}") if isinstance(exc, BufferError) else None


def _inside(kind: type[Exception], *args: Any) -> Callable[[], Exception]:
    return lambda: kind(*args)


def no_such_argument() -> Exception:
    try:
        dict.fromkeys(nonsense=1)  # type: ignore[call-overload]
    except TypeError as exc:
        return exc
    raise AssertionError


MEANINGS: list[tuple[Callable[[], Exception], type[FlowstoreError]]] = [
    (_inside(ValueError, "invalid port"), ConfigurationError),
    (_inside(UnicodeEncodeError, "latin-1", "€", 0, 1, "no"), ConfigurationError),
    (no_such_argument, ConfigurationError),
    (_inside(ModuleNotFoundError, "No module named 'x'"), ConfigurationError),
    (_inside(Driver.ProgrammingError, "invalid connection option"), ConfigurationError),
    (_inside(Driver.InvalidSchemaName, "no such schema"), ConfigurationError),
    (_inside(ConfigurationError, "host: this is a URI"), ConfigurationError),
    (_inside(AttributeError, "no attribute"), StorageError),
    (_inside(KeyError, "x"), StorageError),
    (_inside(AssertionError), StorageError),
    (_inside(ZeroDivisionError), StorageError),
    (_inside(NotImplementedError), StorageError),
    (_inside(ConnectionRefusedError, "refused"), UnreachableError),
    (_inside(TimeoutError, "timed out"), UnreachableError),
    (_inside(socket.gaierror, "no such host"), UnreachableError),
    (_inside(EOFError), UnreachableError),
    (_inside(Driver.OperationalError, "server closed the connection"), UnreachableError),
    (_inside(Exception, "whatever"), UnreachableError),
    (_inside(UnreachableError, "away"), UnreachableError),
]


@pytest.mark.parametrize("adapter", [Failing, FailingRecords])
@pytest.mark.parametrize("in_constructor", [False, True])
@pytest.mark.parametrize(("error", "meaning"), MEANINGS)
def test_whatever_is_raised_has_one_meaning(
    error: Callable[[], Exception], meaning: type[FlowstoreError], in_constructor: bool, adapter: Any
) -> None:
    adapter.error, adapter.connects = staticmethod(error), 0
    store = opened(adapter.__name__, {"retry": 0.1}, in_constructor=in_constructor)
    with pytest.raises(FlowstoreError) as caught:
        store.store("f", "t", "1", 1)
    assert type(caught.value) is meaning
    assert "'S'" in str(caught.value) or getattr(caught.value, "storage", None) == "S"
    if not in_constructor:
        assert (adapter.connects > 1) == (meaning is UnreachableError)


def test_what_the_adapter_translates_means_that() -> None:
    FailingRecords.error = staticmethod(_inside(BufferError, "no room"))
    with pytest.raises(UnsupportedError, match="translated: no room") as caught:
        opened("FailingRecords").store("f", "t", "1", 1)
    assert caught.value.storage == "S"


def test_a_password_that_a_driver_repeats_is_masked() -> None:
    Failing.error = staticmethod(_inside(ValueError, "invalid dsn 'db://shop:hunter2@host/x' (password=hunter2)"))
    with pytest.raises(ConfigurationError) as caught:
        opened("Failing").storage("S")
    assert "hunter2" not in str(caught.value)


class WithoutSelf(Failing):
    """As the first examples of such adapters have it."""

    def connect() -> None: ...  # type: ignore[misc]


class WithoutSelfLater(Failing):
    def connect(self) -> None: ...

    def is_connected() -> bool: ...  # type: ignore[misc, empty-body]


@pytest.mark.parametrize(("classname", "method"), [("WithoutSelf", "connect"), ("WithoutSelfLater", "is_connected")])
def test_a_method_without_self_is_told_as_the_bug_that_it_is(classname: str, method: str) -> None:
    store = opened(classname)
    if classname == "WithoutSelfLater":
        store.storage("S")
    told = rf"'S': {classname}[.]{method}\(\) can't be called .* lack 'self'"
    with pytest.raises(StorageError, match=told) as caught:
        store.storage("S")
    assert not isinstance(caught.value, UnreachableError)


def test_a_storage_within_another_ones_configuration_is_connected_by_the_same_rules() -> None:
    FailingRecords.error = staticmethod(_inside(ValueError, "invalid port"))
    inner = {"classname": "FailingRecords", "import": HERE}
    arguments = {"storages": {"A": inner}, "default": "A"}
    store = FlowStore({"storages": [{"name": "S", "classname": "RoutingStorage", "configuration": arguments}]})
    with pytest.raises(ConfigurationError, match="invalid port"):
        store.storage("S")


# The log


class Told(MemoryStorage):
    def describe(self) -> str:
        return "Toy at db:1"


class Untellable(MemoryStorage):
    def describe(self) -> str:
        raise ValueError("nowhere")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]


def test_the_first_connect_says_in_one_line_where_a_storage_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for classname, expected in (("Told", "Toy at db:1"), ("Untellable", "Untellable")):
        caplog.clear()
        store = opened(classname)
        store.store("f", "t", "1", 1)
        store.close()
        assert store.storage("S").is_connected()
        assert lines(caplog) == [f"storage 'S': {expected}"]


BUILT_IN: list[tuple[str, Mapping[str, Any], str]] = [
    ("MemoryStorage", {}, "the memory of this process"),
    ("FileStorage", {"path": "/srv/results"}, "files in /srv/results"),
    ("SqlStorage", {"connection_string": "sqlite:////srv/r.db"}, "SQLite, /srv/r.db"),
    (
        "SqlStorage",
        {"connection_string": "postgresql://shop:hunter2@db:5433/shop"},
        "PostgreSQL at db:5433, database 'shop'",
    ),
    ("SqlStorage", {"connection_string": "mysql://shop:hunter2@db/shop"}, "MySQL at db:3306, database 'shop'"),
    ("RedisStorage", {"host": "r", "password": "hunter2"}, "Redis at r:6379, database 0"),
    ("RedisStorage", {"url": "rediss://u:hunter2@r:7000/3"}, "Redis at r:7000, database 3"),
    ("RedisStorage", {"unix_socket_path": "/run/r"}, "Redis at /run/r, database 0"),
    (
        "RedisStorage",
        {"sentinels": ["a:1", "b:2"], "service_name": "m", "sentinel_password": "hunter2"},
        "Redis, the primary of 'm' by the Sentinels at a:1, b:2, database 0",
    ),
    (
        "MongoStorage",
        {"uri": "mongodb://u:hunter2@a:1,b:2/?tls=true", "db_name": "d", "collection_name": "c"},
        "MongoDB at a:1,b:2, collection d.c",
    ),
    (
        "MongoStorage",
        {"host": "m", "port": 27018, "db_name": "d", "collection_name": "c"},
        "MongoDB at m:27018, collection d.c",
    ),
    (
        "S3Storage",
        {
            "bucket": "results",
            "endpoint_url": "http://s3:9000",
            "aws_access_key_id": "a",
            "aws_secret_access_key": "hunter2",
        },
        "S3 at s3:9000, bucket 'results', prefix ''",
    ),
    ("S3Storage", {"bucket": "results", "prefix": "flows/"}, "S3, bucket 'results', prefix 'flows/'"),
]


@pytest.mark.parametrize(("classname", "arguments", "expected"), BUILT_IN)
def test_the_built_in_adapters_say_where_they_are_without_secrets(
    classname: str, arguments: Mapping[str, Any], expected: str
) -> None:
    store = FlowStore({"storages": [{"name": "S", "classname": classname, "configuration": dict(arguments)}]})
    assert store._registry._instance("S").describe() == expected


# One thread at a time


class Alone(MemoryStorage):
    """Counts the threads that are inside of what an adapter defines."""

    thread_safe = False
    inside = most = 0

    def _alone(self) -> None:
        Alone.inside += 1
        Alone.most = max(Alone.most, Alone.inside)
        time.sleep(0.002)
        Alone.inside -= 1

    def is_connected(self) -> bool:
        self._alone()
        return super().is_connected()

    def now(self) -> float:
        self._alone()
        return super().now()

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        self._alone()
        return super()._get(ref, payload)

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        self._alone()
        return super()._put(record, if_revision, now)

    def _delete(self, *args: Any) -> Any:
        self._alone()
        return super()._delete(*args)

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        self._alone()
        return super()._scan(query, cursor, limit, payload)

    def _count(self, query: Query) -> int:
        self._alone()
        return super()._count(query)

    def _contents(self) -> Iterator[Any]:
        self._alone()
        for content in super()._contents():
            self._alone()
            yield content

    def _read_content(self, *args: Any) -> Iterator[bytes]:  # type: ignore[override]
        for part in super()._read_content(*args):
            self._alone()
            yield part


def use(store: FlowStore, name: str) -> None:
    store.store("f", "t", name, name)
    assert store.retrieve("f", "t", name) == name
    store.store_many([(("f", "t", f"{name}-{number}"), number) for number in range(3)])
    store.retrieve_many([("f", "t", name)])
    store.store_error(None, "f", "t", name, ValueError(name))
    store.errors("f", "t", name)
    store.variables("f").update(name, lambda value: (value or 0) + 1)
    store.record_history("e", "f", data=name)
    list(store.history("f"))
    store.store_blob("f", "t", name, "b", os.urandom(100_000))
    with store.retrieve_blob("f", "t", name, "b") as file:
        assert len(file.read()) == 100_000
    store.claim("f", "t", name)
    store.cleanup("1h", "S")
    store.delete("f", "t", name)


def test_one_thread_at_a_time_holds_for_every_operation() -> None:
    Alone.inside = Alone.most = 0
    store = opened("Alone")
    start = threading.Barrier(8)

    def run(number: int) -> None:
        start.wait()
        use(store, str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert Alone.most == 1
    store.close()  # or else whoever finds it dropped does, inside of any other call


def test_it_holds_for_a_storage_within_another_one() -> None:
    Alone.inside = Alone.most = 0
    arguments = {"storages": {"A": {"classname": "Alone", "import": HERE}}, "default": "A"}
    entry = {"name": "S", "classname": "RoutingStorage", "configuration": arguments}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.store("f", "t", str(number), number), range(32)))
    assert Alone.most == 1
    store.close()


# Dataclasses


@dataclass
class Tagged(MemoryStorage):
    """Equal to others like it, hence not hashable."""

    tag: str = ""

    def __post_init__(self) -> None:
        super().__init__()


@dataclass
class TaggedAlone(Tagged):
    thread_safe: ClassVar[bool] = False


@dataclass(slots=True)
class Slotted(DataStorage):
    path: str = ""
    results: dict[Any, Any] | None = None

    def connect(self) -> None:
        self.results = {}

    def disconnect(self) -> None: ...

    def is_connected(self) -> bool:
        return self.results is not None

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        return (self.results or {})[flow_name, task_name, task_id]

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> Any:
        (self.results or {})[flow_name, task_name, task_id] = result


@pytest.mark.parametrize("classname", ["Tagged", "TaggedAlone"])
def test_an_adapter_may_be_a_dataclass(classname: str) -> None:
    store = opened(classname, tag="x")
    use(store, "1")
    store.close()
    use(store, "2")


def test_a_plain_adapter_may_be_a_dataclass_with_slots(tmp_path: Path) -> None:
    store = opened("Slotted", path=str(tmp_path))
    store.store("f", "t", "1", 1)
    assert store.storage("S").is_connected()


# The clock


class ClockError(Exception):
    """A driver's."""


class WithoutClock(MemoryStorage):
    """Asks its server what time it is, at each call."""

    away = False

    def now(self) -> float:
        if WithoutClock.away:
            raise ClockError("no answer")
        return super().now()

    def _translate(self, exc: Exception) -> StorageError | None:
        return UnreachableError(str(exc)) if isinstance(exc, ClockError) else None


CLOCKED: dict[str, Callable[[FlowStore], object]] = {
    "store": lambda store: store.store("f", "t", "2", 2),
    "store_many": lambda store: store.store_many([(("f", "t", "2"), 2)]),
    "store_error": lambda store: store.store_error(None, "f", "t", "2", ValueError("no")),
    "store_blob": lambda store: store.store_blob("f", "t", "2", "b", b"1", expires_in=9),
    "retrieve": lambda store: store.retrieve("f", "t", "1"),
    "retrieve_many": lambda store: store.retrieve_many([("f", "t", "1")]),
    "get_or_store": lambda store: store.get_or_store("f", "t", "2", 2),
    "claim": lambda store: store.claim("f", "t", "2", expires_in=9),
    "set": lambda store: store.variables("f").set("v", 1),
    "variables": lambda store: list(store.variables("f")),
    "record_history": lambda store: store.record_history("e", "f"),
    "history": lambda store: list(store.history("f")),
    "run_records": lambda store: list(store._run_reader.records("r")),
    "cleanup": lambda store: store.cleanup("1h", "S"),
}


@pytest.mark.parametrize("call", CLOCKED.values(), ids=CLOCKED)
def test_what_a_clock_raises_is_translated(call: Callable[[FlowStore], object]) -> None:
    WithoutClock.away = False
    store = opened("WithoutClock", "fail")
    store.store("f", "t", "1", 1, expires_in=3600)
    WithoutClock.away = True
    with pytest.raises(UnreachableError, match="no answer"):
        call(store)
