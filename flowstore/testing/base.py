"""The base of the kit's test classes, and what an author may define."""

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
    """Makes an adapter's server unreachable, and reachable again."""

    def begin(self) -> None:
        """Break all connections and refuse new ones."""

    def end(self) -> None:
        """Accept connections again; stored data must still be there."""


class LostAnswer(Protocol):
    """Loses an answer of the server."""

    def lose(self) -> None:
        """Let the server execute the next request, then cut the connection once.

        The client gets no answer to that request; later ones are answered.
        """


class Bystander(Protocol):
    """Data of another program in the adapter's database, bucket or folder."""

    def leave(self) -> None:
        """Store the data. The adapter has connected before."""

    def left(self) -> object:
        """Return all data there that is not flowstore's, for comparison."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's class and configuration, from which instances are made."""

    storage_class: type[DataStorage]
    configuration: Mapping[str, Any]

    def make(self) -> Any:
        """Return a new instance, constructed as flowstore does, unconnected."""
        # It can't refer to other storages by name; their entries have to be in its configuration.
        return construct(self._configuration().storages[_NAME], _undeclared)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield a new, connected instance; disconnect it at the end."""
        storage = self.make()
        storage.connect()
        try:
            yield storage
        finally:
            storage.disconnect()

    @contextmanager
    def configured(self) -> Iterator[Callable[[], Any]]:
        """Yield a function that returns the process's connected instance.

        Applications get the adapter in this way.
        """
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
        # Settings in the environment must not change the tests.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOWSTORE_")}
        return loading.load({"storages": [entry]}, environ=environ)


class AdapterTests:
    """The attributes and fixtures that an author may define.

    A test class that overrides anything else of the kit is refused before any test runs.
    """

    aspect: ClassVar[str] = ""
    """The name of what the tests of a kit class prove."""

    storage_class: ClassVar[Any]
    """The adapter's class, or a fixture that returns it. It must be importable by name."""

    waivers: ClassVar[Mapping[str, str]] = {}
    """Tests of the kit that the adapter is known to fail, each with the reason.

    They still run, are reported as waived, and must fail: one that passes fails the run, so that no waiver outlives its
    reason. ``test_name`` waives all variants of a test, ``test_name[variant]`` one of them.
    """

    lacks: ClassVar[Mapping[str, str]] = {}
    """Optional aspects that the adapter does not offer, each with the reason.

    Their tests are skipped and reported as not offered.

    - ``instances``: another instance with the same configuration sees what this one stored.
    - ``processes``: an instance in another process sees it.
    - ``faults``: the adapter has a server that may be unreachable.
    - ``raw access``: records can be read without the adapter.
    - ``foreign data``: other programs may store data in the same place.
    - ``damaged records``: records can be damaged without the adapter.
    """

    deadline: ClassVar[float] = 60.0
    """Seconds after which a concurrent test counts as hanging; no test takes that long."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        rules.check(cls)

    @pytest.fixture
    def configuration(self) -> Mapping[str, Any]:
        """Return the ``configuration`` for a place that is empty in each test."""
        missing = f"{type(self).__name__} must define a fixture `configuration` that returns a mapping"
        pytest.fail(missing, pytrace=False)

    @pytest.fixture
    def outage(self) -> Outage | None:
        """Return what makes the server unreachable, for the tests of faults."""
        return None

    @pytest.fixture
    def lost_answer(self) -> LostAnswer | None:
        """Return what loses an answer, for the tests of repeated writes."""
        return None

    @pytest.fixture
    def raw_get(self) -> Callable[[Ref], bytes | None] | None:
        """Return a function that reads a stored payload without the adapter.

        It returns ``None`` if there is no record.
        """
        return None

    @pytest.fixture
    def bystander(self) -> Bystander | None:
        """Return another program's data, which emptying must leave alone."""
        return None

    @pytest.fixture
    def damage(self) -> Callable[[Ref], None] | None:
        """Return a function that overwrites a record's headers with garbage."""
        return None

    @pytest.fixture
    def adapter(self, request: pytest.FixtureRequest) -> Adapter:
        storage_class = getattr(type(self), "storage_class", None)
        if storage_class is None:
            pytest.fail(f"{type(self).__name__} must define `storage_class`, the class of the adapter", pytrace=False)
        if not isinstance(storage_class, type):
            storage_class = request.getfixturevalue("storage_class")
        return Adapter(storage_class, request.getfixturevalue("configuration"))


def _undeclared(name: str) -> NoReturn:
    raise UnknownStorageError(f"the kit has no storage named {name!r}: put its entry into the configuration")


def not_offered(why: str) -> NoReturn:
    """Skip a test of something that the adapter does not offer."""
    pytest.skip(f"{rules.LACKS}{why}")


def require_fixture(given: T | None, fixture: str, aspect: str) -> T:
    """Return the value of an optional fixture; skip the test without it."""
    if given is None:
        pytest.skip(f"not proven: define a fixture `{fixture}`, or declare lacks = {{{aspect!r}: 'the reason'}}")
    return given
