"""A small stand-in for a stored result, to be passed on instead of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowstore.errors import SerializationError
from flowstore.record import Key

_MARK: Final = "$flowstore"
_PARTS: Final = ("storage", "flow_name", "task_name", "task_id")


@dataclass(frozen=True, slots=True)
class Reference:
    """Say where a result is: a few names, which any process with the same storages can load it by.

    As an argument of a task it travels in Celery's JSON, and arrives as the mapping that ``to_dict`` makes.

    Attributes:
        storage: the storage's configured name.
        key: under which the result is stored there.
    """

    storage: str
    key: Key

    def to_dict(self) -> dict[str, str]:
        """Return the reference as JSON-able data."""
        key = self.key
        parts = (self.storage, key.flow_name, key.task_name, key.task_id)
        return {_MARK: "reference", **dict(zip(_PARTS, parts, strict=True))}

    # What kombu, hence Celery, calls for a value that JSON has no form for.
    __json__ = to_dict

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reference:
        """Read what ``to_dict`` made.

        Raises:
            SerializationError: it is something else.
        """
        if data.get(_MARK) != "reference" or not all(isinstance(data.get(part), str) for part in _PARTS):
            raise SerializationError(f"this is no reference to a result: a mapping with the keys {', '.join(data)}")
        storage, *names = (data[part] for part in _PARTS)
        return cls(storage, Key(*names))
