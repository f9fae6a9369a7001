"""The header that a message carries, read with care: whoever may publish, in whatever language, can write it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypedDict, cast
from uuid import UUID

log = logging.getLogger(__name__)

HEADER: Final = "flowstore"
"""The message header: a mapping with the names of ``Header``, all optional."""

LONGEST: Final = 16_384
"""Characters of a name or id; a longer one is ignored."""


class Header(TypedDict, total=False):
    """What a message says of its task.

    Attributes:
        flow, run: the flow run that it belongs to.
        sent: when the message was published, in seconds since the epoch.
        parent: the task that sent it, as Celery name and id.
        joins: for the first tasks of a chord's body, the id of the group that is the chord's header.
        hidden: what stands for the arguments and keyword arguments of a task that is sent again, where its first
            sender hides them.
    """

    flow: str
    run: str
    sent: float
    parent: list[str]
    joins: str
    hidden: list[str]


def header_of(request: Any) -> Header:
    """Return the header that a task request came with.

    What in it is not of its type, or too long, is left out and logged, once for each kind of mistake: a task runs
    whatever its message says.
    """
    header = getattr(request, HEADER, None)
    if header is None:
        headers = getattr(request, "headers", None)
        header = headers.get(HEADER) if isinstance(headers, Mapping) else None
    if header is None:
        return {}
    if not isinstance(header, Mapping):
        _warn("", type(header).__name__)
        return {}
    found: Any = Header()
    for name, read in _READERS.items():
        value = header.get(name)
        if value is None or value == "":
            continue
        found[name] = read(value)
        if found[name] is None:
            del found[name]
            _warn(name, type(value).__name__)
    return cast(Header, found)


@lru_cache(256)
def _warn(name: str, found: str) -> None:
    what = f"{name!r} in the message header {HEADER!r}" if name else f"the message header {HEADER!r}"
    log.warning("%s is none that flowstore writes (%s), and is ignored", what, found)


def _text(value: Any) -> str | None:
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None  # a lone surrogate, which no database can keep
    return str(value)


def _time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _pair(value: Any) -> list[str] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    pair = [_text(part) for part in value]
    return [part for part in pair if part is not None] if all(pair) else None


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "flow": _text,
    "run": _text,
    "sent": _time,
    "parent": _pair,
    "joins": _text,
    "hidden": _pair,
}
