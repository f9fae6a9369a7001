"""What the tests of ``RoutingStorage`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from flowstore.config import loading
from flowstore.record import Record
from flowstore.storage import RecordStorage
from flowstore.storages import MemoryStorage
from flowstore.store.registry import Registry
from tests.servers import met

NO_SERVER = "its storages here have no server; TestRoutingOverAServer has"
ELSEWHERE = "each of its storages proves that itself"


def sqlite(path: Path) -> dict[str, Any]:
    met.note("SqlStorage", met.SQLITE)
    url = f"sqlite:///{path}.db"
    return {"classname": "SqlStorage", "configuration": {"connection_string": url, "synchronous": "NORMAL"}}


def files(path: Path) -> dict[str, Any]:
    return {"classname": "FileStorage", "configuration": {"path": str(path), "durable": False}}


@contextmanager
def routed(declared: dict[str, dict[str, Any]], configuration: dict[str, Any]) -> Iterator[Registry]:
    """Declare storages and a RoutingStorage ``Routed`` that works on them; yield what hands them out."""
    entries = [{"name": name, **entry} for name, entry in declared.items()]
    routing = {"name": "Routed", "classname": "RoutingStorage", "configuration": configuration}
    registry = Registry(loading.load({"storages": [*entries, routing]}))
    try:
        yield registry
    finally:
        registry.close()


def records(registry: Registry, name: str) -> RecordStorage:
    storage = registry.get(name)
    assert isinstance(storage, RecordStorage)
    return storage


class Interrupted(MemoryStorage):
    """A storage before whose next batch something else happens: what two processes do at once, in one order."""

    before_next: ClassVar[Callable[[], object] | None] = None

    def put_many(self, records: Sequence[Record]) -> list[Record]:
        act, Interrupted.before_next = Interrupted.before_next, None
        if act is not None:
            act()
        return super().put_many(records)
