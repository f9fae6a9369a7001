"""What an author gives to the kit, and what each aspect of it builds on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NoReturn, Protocol, TypeVar

import pytest

from flowstore.config import Configuration, loading
from flowstore.config.adapters import construct
from flowstore.errors import UnknownStorageError
from flowstore.record import Ref
from flowstore.storage import DataStorage
from flowstore.store.registry import Registry
from flowstore.testing import rules

T = TypeVar("T")

_NAME: Final = "tested"


class Outage(Protocol):
    """Makes the server of an adapter unreachable, and reachable again."""

    def begin(self) -> None:
        """Break the connections there are, and let nobody connect."""

    def end(self) -> None:
        """Let connect again; what was stored has to be there still."""


class LostAnswer(Protocol):
    """Makes an answer of the server get lost."""

    def lose(self) -> None:
        """Let the server do what it is asked next, but cut the connection in place of its answer; then all is well."""


class Bystander(Protocol):
    """What another program keeps in the database, bucket or folder that the adapter is configured for."""

    def leave(self) -> None:
        """Put it there. The adapter has connected before."""

    def left(self) -> object:
        """Return all that is there and not flowstore's, to be compared."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's class and configuration: how any thread or process makes an instance of its own."""

    storage_class: type[DataStorage]
    configuration: Mapping[str, Any]

    def make(self) -> Any:
        """Return a new instance, constructed from the configuration as flowstore does and not connected."""
        # Storages that it works on by their names are not declared here; those within its configuration are.
        return construct(self._configuration().storages[_NAME], _undeclared)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Connect a new instance, and disconnect it at the end."""
        storage = self.make()
        storage.connect()
        try:
            yield storage
        finally:
            storage.disconnect()

    @contextmanager
    def configured(self) -> Iterator[Callable[[], Any]]:
        """Give a function that returns the adapter as applications get it: one for each process, connected."""
        registry = Registry(self._configuration())
        try:
            yield lambda: registry.get(_NAME)
        finally:
            registry.close()

    def _configuration(self) -> Configuration:
        entry = {
            "name": _NAME,
            "classname": self.storage_class.__name__,
            "import": self.storage_class.__module__,
            "configuration": dict(self.configuration),
        }
        # Settings of whoever runs the tests are kept out of them.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOWSTORE_")}
        return loading.load({"storages": [entry]}, environ=environ)


class AdapterTests:
    """What an author gives; everything else in a test class of the kit is the kit's and can't be replaced.

    A test class is refused, before any test runs, if it overrides a test or a fixture of the kit.
    """

    aspect: ClassVar[str] = ""
    """What the tests of a class of the kit prove."""

    storage_class: ClassVar[Any]
    """The adapter's class: as a class attribute, or as a fixture that returns it. It has to be importable by name."""

    waivers: ClassVar[Mapping[str, str]] = {}
    """Tests of the kit that the adapter is known to fail, each with the reason.

    They still run, are reported as waived, and have to fail: one that passes fails the run, so that no waiver outlives
    its reason. ``test_name`` waives all variants of a test, ``test_name[variant]`` one.
    """

    lacks: ClassVar[Mapping[str, str]] = {}
    """Optional aspects that the adapter does not offer, each with the reason. They are not run, and reported.

    - ``instances``: another instance with the same configuration sees what this one stored.
    - ``processes``: so does one in another process.
    - ``faults``: there is a server that may be unreachable.
    - ``raw access``: what is stored can be read by other means than the adapter.
    - ``foreign data``: other programs may keep something in the same place.
    - ``damaged records``: what is stored can be damaged by other means than the adapter.
    """

    deadline: ClassVar[float] = 60.0
    """Seconds after which what runs concurrently counts as hanging. Nothing is expected to take that long."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        rules.check(cls)

    @pytest.fixture
    def configuration(self) -> Mapping[str, Any]:
        """The ``configuration`` of the adapter's YAML entry, for a place that is empty at the start of each test."""
        missing = f"{type(self).__name__} has to define a fixture `configuration` that returns a mapping"
        pytest.fail(missing, pytrace=False)

    @pytest.fixture
    def outage(self) -> Outage | None:
        """What makes the server unreachable; with it, the tests of faults run."""
        return None

    @pytest.fixture
    def lost_answer(self) -> LostAnswer | None:
        """What makes an answer of the server get lost; with it, the tests of repeated writes run."""
        return None

    @pytest.fixture
    def raw_get(self) -> Callable[[Ref], bytes | None] | None:
        """A function that reads a record's stored payload around the adapter, or ``None`` if there is no record."""
        return None

    @pytest.fixture
    def bystander(self) -> Bystander | None:
        """What another program keeps beside flowstore's records; with it, emptying is shown to leave that alone."""
        return None

    @pytest.fixture
    def damage(self) -> Callable[[Ref], None] | None:
        """A function that overwrites what is stored of a record's headers with bytes that are none."""
        return None

    @pytest.fixture
    def adapter(self, request: pytest.FixtureRequest) -> Adapter:
        found = getattr(type(self), "storage_class", None)
        if found is None:
            pytest.fail(f"{type(self).__name__} has to define `storage_class`, the class of the adapter", pytrace=False)
        if not isinstance(found, type):
            found = request.getfixturevalue("storage_class")
        return Adapter(found, request.getfixturevalue("configuration"))


def _undeclared(name: str) -> NoReturn:
    raise UnknownStorageError(f"the kit declares no storage {name!r}: give the entry itself")


def not_offered(why: str) -> NoReturn:
    """Leave a test that is about something the adapter does not offer; it is reported as lacking."""
    pytest.skip(f"{rules.LACKS}{why}")


def require_fixture(given: T | None, fixture: str, aspect: str) -> T:
    """Return what an optional fixture gave, or leave the test as one that proves nothing."""
    if given is None:
        pytest.skip(f"not proven: define a fixture `{fixture}`, or declare lacks = {{{aspect!r}: 'the reason'}}")
    return given
