"""A test class for each adapter here, right and broken; test_broken_adapters.py runs them in another process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flowstore.record import Query, Ref
from flowstore.testing import DataStorageTests, StorageTests
from tests.testing import (
    broken,
    broken_addresses,
    broken_blobs,
    broken_damaged,
    broken_faults,
    broken_loads,
    broken_plain,
    broken_queries,
    plain,
    wire,
)
from tests.testing.wire_server import dump_ref

Given = tuple[int, wire.WireOutage]


@pytest.fixture(scope="session")
def server() -> Iterator[Given]:
    with wire.wire_server() as given:
        yield given


class Beside:
    """Another place of the same server, whose name begins as the tested one's."""

    def __init__(self, storage: wire.WireStorage) -> None:
        self._storage = storage

    def __enter__(self) -> Beside:
        self._storage.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.disconnect()

    def leave(self) -> None:
        self._storage.store("flow", "task", "1", "mine")

    def left(self) -> object:
        return list(self._storage.records(Query()))


class WireTests(StorageTests):
    storage_class: ClassVar[Any] = wire.WireStorage

    @pytest.fixture
    def configuration(self, server: Given) -> dict[str, Any]:
        return {"port": server[0], "place": uuid.uuid4().hex, "password": "canary-7b1c"}

    @pytest.fixture
    def outage(self, server: Given) -> wire.WireOutage:
        return server[1]

    @pytest.fixture
    def lost_answer(self, server: Given) -> wire.WireOutage:
        return server[1]

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Iterator[Beside]:
        with Beside(wire.WireStorage(configuration["port"], f"{configuration['place']} beside")) as beside:
            yield beside

    @pytest.fixture
    def raw_get(self, configuration: dict[str, Any]) -> Callable[[Ref], bytes | None]:
        def look(ref: Ref) -> bytes | None:
            direct = wire.WireStorage(**configuration)
            found = direct._get(ref, True)
            direct.disconnect()
            return found.payload if found else None

        return look

    @pytest.fixture
    def damage(self, configuration: dict[str, Any]) -> Callable[[Ref], None]:
        def spoil(ref: Ref) -> None:
            direct = wire.WireStorage(**configuration)
            direct._call("damage", dump_ref(ref))
            direct.disconnect()

        return spoil


class PlainTests(DataStorageTests):
    storage_class: ClassVar[Any] = plain.PlainStorage
    lacks: ClassVar = {"faults": "there is no server"}

    @pytest.fixture
    def configuration(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": str(tmp_path / "results")}


class TestWire(WireTests):
    """Right in every respect."""


class TestPlain(PlainTests):
    """Right in every respect, with six methods."""


class TestPlainWithoutErrors(PlainTests):
    storage_class = plain.ResultStorage


class AloneTests(DataStorageTests):
    lacks: ClassVar = {
        "faults": "there is no server",
        "instances": "each has values of its own",
        "processes": "each has values of its own",
    }

    @pytest.fixture
    def configuration(self) -> dict[str, Any]:
        return {}


BROKEN: list[str] = []
"""The names of the test classes of adapters that have a mistake."""


def _add(module: Any, name: str, base: type[Any]) -> None:
    facts = {"storage_class": getattr(module, name), "deadline": 3.0, "__module__": __name__}
    globals()[f"Test{name}"] = type(f"Test{name}", (base,), facts)
    BROKEN.append(f"Test{name}")


MODULES = (
    (broken, WireTests),
    (broken_addresses, WireTests),
    (broken_blobs, WireTests),
    (broken_damaged, WireTests),
    (broken_faults, WireTests),
    (broken_loads, WireTests),
    (broken_queries, WireTests),
    (broken_plain, PlainTests),
)

for module, base in MODULES:
    for name, found in list(vars(module).items()):
        is_own = isinstance(found, type) and found.__module__ == module.__name__ and not name.startswith("_")
        if is_own and not issubclass(found, Exception):
            _add(module, name, AloneTests if name == "SharedValue" else base)
