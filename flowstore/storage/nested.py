"""Storages that other storages use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowstore.forks import ForkSafeLock
from flowstore.storage.connecting import connect

if TYPE_CHECKING:
    from flowstore.storage import RecordStorage


class NestedStorage:
    """A storage that another storage uses.

    It is connected on first use, and again after it was disconnected. An adapter that uses other storages has an
    argument with the annotation ``Mapping[str, NestedStorage]``. In a configuration, each of them is the name of a
    declared storage, or an entry with ``classname``, ``import`` and ``configuration``.

    Args:
        name: its name in the adapter's other arguments.
        storage: the storage, owned by this object; or a function that returns a shared storage, connected. A shared
            storage is not disconnected with the adapter.
    """

    def __init__(self, name: str, storage: RecordStorage | Callable[[], RecordStorage]) -> None:
        self.name = name
        self._own = None if callable(storage) else storage
        self._get = storage if callable(storage) else self._connected
        self._lock = ForkSafeLock()

    def __repr__(self) -> str:
        return f"<NestedStorage {self.name!r}>"

    def get(self) -> RecordStorage:
        """Return the storage, connected.

        Raises:
            StorageError, ConfigurationError: it can't be connected; the next call tries again.
        """
        return self._get()

    def close(self) -> None:
        """Disconnect the storage, unless it is shared."""
        if self._own is not None and self._own.is_connected():
            self._own.disconnect()

    def _connected(self) -> RecordStorage:
        storage = self._own
        assert storage is not None
        if not storage.is_connected():
            with self._lock:
                if not storage.is_connected():
                    connect(storage, self.name)
        return storage

    @classmethod
    def __get_pydantic_json_schema__(cls, _core: Any, _handler: Any) -> dict[str, Any]:
        """Return the JSON schema of the configuration, for editors."""
        text = {"type": "string", "minLength": 1}
        entry = {
            "type": "object",
            "properties": {"classname": text, "import": text, "configuration": {"type": ["object", "null"]}},
            "required": ["classname"],
            "additionalProperties": False,
        }
        return {"anyOf": [text, entry]}
