"""What to return instead of a value that can't be stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Iterator
from enum import Enum
from typing import Final

_BASES: Final = (dict, list, tuple, str, bytes, int, float, set)


def hint(kind: type) -> str:
    """Return what to do with values of a type, to stand at the end of a message; ``""`` where that is not known."""
    if issubclass(kind, Awaitable | AsyncIterator):
        return "; Celery calls an 'async def' and does not await it: make the task a 'def' that calls asyncio.run(...)"
    if issubclass(kind, Iterator):
        return "; what it gives is made only when it is asked for: return list(...) of it"
    if hasattr(kind, "__dataclass_fields__"):
        return "; return its .to_dict()" if hasattr(kind, "to_dict") else "; return dataclasses.asdict(...) of it"
    if hasattr(kind, "model_dump"):
        return "; return its .model_dump()"
    if hasattr(kind, "to_frame"):
        return "; return its .to_frame()"
    for base in _BASES:
        if issubclass(kind, base):
            return f"; it would not come back as that subclass of {base.__name__}: return {base.__name__}(...) of it"
    if issubclass(kind, Enum):
        return "; return its .value"
    if hasattr(kind, "tolist"):
        return "; return its .tolist()"
    return "; return list(...) of it" if issubclass(kind, Collection) else ""
