"""Read messages and requests: flowstore's header, names, arguments.

Any program that may publish can write the header, so it is checked field by field.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypedDict, cast
from uuid import UUID

from celery.utils.saferepr import saferepr

log = logging.getLogger(__name__)

HEADER: Final = "flowstore"
"""The message header: a mapping with the names of ``Header``, all optional."""

LONGEST: Final = 16_384
"""Maximum length of a name or id, in characters; a longer one is ignored."""

_SHOWN: Final = 1024
"""Maximum length of ``argsrepr`` and ``kwargsrepr``, as in Celery."""

_BRACKETS: Final = str.maketrans("()", "[]")


class Header(TypedDict, total=False):
    """The fields of the message header.

    Attributes:
        flow, run: the task's flow run.
        sent: when the message was published, in seconds since the epoch.
        parent: Celery name and id of the task that sent the message.
        joins: for the first tasks of a chord's body, the id of the chord's header group.
        hidden: the texts shown in place of hidden arguments and keyword arguments; set when a task is sent again.
    """

    flow: str
    run: str
    sent: float
    parent: list[str]
    joins: str
    hidden: list[str]


def header_of(request: Any) -> Header:
    """Return the message header of a task request; never raises.

    Fields of the wrong type and texts that are too long are left out, and logged once per kind of mistake: a task runs
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
    fields: Any = Header()
    for name, read in _READERS.items():
        value = header.get(name)
        if value is None or value == "":
            continue
        fields[name] = read(value)
        if fields[name] is None:
            del fields[name]
            _warn(name, type(value).__name__)
    return cast(Header, fields)


def text(value: object) -> str:
    """Return the text under which a name or id is stored.

    Returns ``""`` for ``None``. Lone surrogates are escaped, because no database can store them.
    """
    if type(value) is str and value.isascii():
        return value
    if value is None:
        return ""
    converted = str.__str__(value) if isinstance(value, str) else str(value)
    return converted.encode("utf-8", "backslashreplace").decode()


def task_name_of(request: Any) -> str | None:
    """Return the name of a request's task, or ``None`` if it has none."""
    task = getattr(request, "task", None) or getattr(request, "name", None)
    name = getattr(task, "name", task)
    return name if isinstance(name, str) and name else None


def arguments_of(request: Any) -> dict[str, Any]:
    """Return the arguments of a task.

    Arguments hidden by ``argsrepr`` or ``kwargsrepr`` are replaced by that text.
    """
    hidden = header_of(request).get("hidden")
    if hidden is not None:
        return {"args": hidden[0], "kwargs": hidden[1]}
    return {"args": _shown(request, "args"), "kwargs": _shown(request, "kwargs")}


def hidden_arguments(request: Any) -> list[str] | None:
    """Return the texts shown in place of hidden arguments, or ``None``.

    Celery drops them when it sends the task again.
    """
    hidden = header_of(request).get("hidden")
    if hidden is not None:
        return hidden
    shown = [_shown(request, "args"), _shown(request, "kwargs")]
    if shown[0] is getattr(request, "args", None) and shown[1] is getattr(request, "kwargs", None):
        return None
    return [one[:_SHOWN] if isinstance(one, str) else saferepr(one, _SHOWN) for one in shown]


@lru_cache(256)
def _warn(name: str, type_name: str) -> None:
    what = f"{name!r} in the message header {HEADER!r}" if name else f"the message header {HEADER!r}"
    log.warning("ignored %s: not a value that flowstore writes (type %s)", what, type_name)


def _read_text(value: Any) -> str | None:
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None  # a lone surrogate, which no database can store
    return str(value)


def _read_time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _read_pair(value: Any) -> list[str] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    pair = [_read_text(part) for part in value]
    return [part for part in pair if part is not None] if all(pair) else None


def _shown(request: Any, name: str) -> Any:
    """Return arguments, or the sender's text for them if it hides them."""
    value, shown = getattr(request, name, None), getattr(request, f"{name}repr", None)
    if not isinstance(shown, str) or not shown or _normalized(saferepr(value, _SHOWN)) == _normalized(shown):
        return value
    return shown


def _normalized(shown: str) -> str:
    """Return a ``repr`` with tuples as lists, which JSON makes of them."""
    return shown.translate(_BRACKETS).replace(",]", "]")


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "flow": _read_text,
    "run": _read_text,
    "sent": _read_time,
    "parent": _read_pair,
    "joins": _read_text,
    "hidden": _read_pair,
}
