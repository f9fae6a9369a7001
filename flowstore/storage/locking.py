"""Serializing calls of adapters that are not thread-safe."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

from flowstore.storage.base import DataStorage

_MINIMUM: Final = ("connect", "disconnect", "is_connected", "retrieve", "store", "store_error", "delete")
"""The operations of a ``DataStorage``; other methods are not serialized."""

_LEFT_OUT: Final = frozenset({"describe", "preload"})


def serialize_calls(storage: DataStorage, base: type) -> None:
    """Let only one thread at a time call the methods of an adapter.

    The methods are replaced on the instance, so callers still get the adapter itself.

    Args:
        base: the base class. Of its methods, those that the adapter overrides are serialized: the others work by
            calling these.
    """
    lock = threading.RLock()
    adapter = type(storage)
    names = {name for name in _MINIMUM if callable(getattr(storage, name, None))}
    names |= {name for name in dir(base) if _is_overridden(adapter, base, name)}
    for name in names:
        object.__setattr__(storage, name, _guarded(getattr(storage, name), lock))


def _is_overridden(adapter: type, base: type, name: str) -> bool:
    if name.startswith("__") or name in _LEFT_OUT:
        return False
    ours = inspect.getattr_static(base, name)
    return isinstance(ours, FunctionType) and inspect.getattr_static(adapter, name, ours) is not ours


def _guarded(method: Callable[..., Any], lock: threading.RLock) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with lock:
            found = method(*args, **kwargs)
        # A generator runs only while its items are taken.
        is_lazy = isinstance(found, Iterator) and not hasattr(found, "read")
        return _GuardedIterator(found, lock) if is_lazy else found

    return call


class _GuardedIterator:
    """An iterator that holds the lock while it produces an item."""

    def __init__(self, items: Any, lock: threading.RLock) -> None:
        self._items = items
        self._lock = lock

    def __iter__(self) -> _GuardedIterator:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._items)

    def close(self) -> None:
        """Close the underlying iterator."""
        close = getattr(self._items, "close", None)
        if close is not None:
            with self._lock:
                close()
