"""One thread at a time in an adapter that is not safe in threads."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Final

from flowstore.storage.minimum import DataStorage

_MINIMUM: Final = ("connect", "disconnect", "is_connected", "retrieve", "store", "store_error", "delete")
"""The operations of a ``DataStorage``; its own further methods are its own affair."""

_LEFT_OUT: Final = frozenset({"describe", "preload"})


def let_in_one_at_a_time(storage: DataStorage, base: type) -> None:
    """Let one thread at a time into an adapter; on the instance, so that people still get the adapter itself.

    Args:
        base: the class of the contract. Of its methods those are guarded that the adapter defines anew: what the
            others do, they do by these.
    """
    lock = threading.RLock()
    adapter = type(storage)
    names = {name for name in _MINIMUM if callable(getattr(storage, name, None))}
    names |= {name for name in dir(base) if _is_anew(adapter, base, name)}
    for name in names:
        object.__setattr__(storage, name, _guarded(getattr(storage, name), lock))


def _is_anew(adapter: type, base: type, name: str) -> bool:
    if name.startswith("__") or name in _LEFT_OUT:
        return False
    ours = inspect.getattr_static(base, name)
    return isinstance(ours, FunctionType) and inspect.getattr_static(adapter, name, ours) is not ours


def _guarded(method: Callable[..., Any], lock: threading.RLock) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with lock:
            found = method(*args, **kwargs)
        # A generator begins to work when something is taken from it.
        is_lazy = isinstance(found, Iterator) and not hasattr(found, "read")
        return _GuardedIterator(found, lock) if is_lazy else found

    return call


class _GuardedIterator:
    """An iterator into which one thread at a time is let, between two of its items others."""

    def __init__(self, items: Any, lock: threading.RLock) -> None:
        self._items = items
        self._lock = lock

    def __iter__(self) -> _GuardedIterator:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._items)

    def close(self) -> None:
        """Let go of what the items come from."""
        close = getattr(self._items, "close", None)
        if close is not None:
            with self._lock:
                close()
