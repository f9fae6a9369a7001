"""References to stored results, passed on instead of the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowstore.errors import SerializationError
from flowstore.record.keys import Key

_MARK: Final = "$flowstore"
_PARTS: Final = ("storage", "flow_name", "task_name", "task_id")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a result is stored.

    Any process with the same storages can load it. As an argument of a task it is sent as Celery's JSON, and arrives as
    the mapping that ``to_dict`` returns.

    Attributes:
        storage: the storage's configured name.
        key: the key of the result in that storage.
    """

    storage: str
    key: Key

    def to_dict(self) -> dict[str, str]:
        """Return the reference as JSON-serializable data."""
        key = self.key
        parts = (self.storage, key.flow_name, key.task_name, key.task_id)
        return {_MARK: "reference", **dict(zip(_PARTS, parts, strict=True))}

    # Called by kombu, and so by Celery, for values that JSON can't represent.
    __json__ = to_dict

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reference:
        """Parse what ``to_dict`` returned.

        Raises:
            SerializationError: it is something else.
        """
        if data.get(_MARK) != "reference" or not all(isinstance(data.get(part), str) for part in _PARTS):
            raise SerializationError(f"not a reference to a result: a mapping with the keys {', '.join(data)}")
        storage, *names = (data[part] for part in _PARTS)
        return cls(storage, Key(*names))
