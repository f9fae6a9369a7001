"""Which storage keeps a record, by kind, flow, task and size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final

from flowstore.record import Query, Ref, register_kind

PAYLOAD: Final = register_kind("routing.payload", survives_clear=True)
"""Kind of blobs that hold the payload of a record in another storage; deleted with the record."""

PENDING: Final = register_kind("routing.stray", survives_clear=True)
"""Kind of records in a fallback, until they are moved to their homes."""

HIDDEN: Final = (PAYLOAD, PENDING)

LARGEST_LIMIT: Final = 16 << 20
"""The largest ``min_size``: as much of a blob may be read into memory to choose its storage."""


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """Send records to a storage; omitted conditions apply to all records.

    Attributes:
        storage: the name of one of the storages.
        kinds: the kinds of records.
        flow, task: the names of the flow and the task; case-sensitive, with ``*``, ``?`` and ``[...]`` as in a shell.
        min_size: only payloads of at least that many bytes; at most 16 MiB.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    storage: str
    kinds: tuple[str, ...] | None = None
    flow: str | None = None
    task: str | None = None
    min_size: int | None = None

    def concerns(self, ref: Ref) -> bool:
        """Return whether the route applies to a record, whatever its size."""
        return (
            (self.kinds is None or ref.kind in self.kinds)
            and (self.flow is None or fnmatchcase(ref.key.flow_name, self.flow))
            and (self.task is None or fnmatchcase(ref.key.task_name, self.task))
        )

    def may_concern(self, query: Query) -> bool:
        """Return whether the route may apply to a record that a query selects."""
        return (
            (self.kinds is None or query.kinds is None or not set(self.kinds).isdisjoint(query.kinds))
            and (self.flow is None or query.flow_name is None or fnmatchcase(query.flow_name, self.flow))
            and (self.task is None or query.task_name is None or fnmatchcase(query.task_name, self.task))
        )

    @property
    def covers_all(self) -> bool:
        return self.kinds is None and self.flow is None and self.task is None


class Rules:
    """The routes of a storage: the first one that applies decides. Immutable.

    A record's home depends on its kind, flow and task alone, so that all readers, writers and claims use the same
    storage, whatever its size. A large payload may be kept elsewhere.
    """

    def __init__(self, routes: Sequence[RoutingRule], default: str) -> None:
        self._routes = (*routes, RoutingRule(default))

    def home(self, ref: Ref) -> str:
        """Return the name of the storage that keeps a record."""
        return next(route.storage for route in self._routes if route.min_size is None and route.concerns(ref))

    def away(self, ref: Ref, reaches: Callable[[int], bool]) -> str | None:
        """Return the storage of a payload; None if it stays with its record.

        Args:
            reaches: returns whether the payload has at least that many bytes.
        """
        for route in self._routes:
            if route.concerns(ref):
                if route.min_size is None:
                    return None
                if reaches(route.min_size):
                    return route.storage
        raise AssertionError("the last route applies to everything")

    def places(self, ref: Ref) -> list[str]:
        """Return the storages that may keep a payload, likely ones first."""
        sized = [route.storage for route in self._routes if route.min_size is not None and route.concerns(ref)]
        return list(dict.fromkeys([*sized, self.home(ref)]))

    def homes(self, query: Query) -> list[str]:
        """Return the names of the homes of the records that a query may select."""
        return list(dict.fromkeys(self._homes(query)))

    def _homes(self, query: Query) -> Iterator[str]:
        for route in self._routes:
            if route.min_size is None and route.may_concern(query):
                yield route.storage
                if route.covers_all:
                    return
