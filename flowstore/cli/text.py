"""Texts for people: nothing in them can command a terminal."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

_UNPRINTABLE_IN_JSON = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def printable(text: str, keep: str = "") -> str:
    """Return a text with every character that doesn't print written as an escape (``\\x1b``)."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    """Return a text in one printable line."""
    return printable(" ".join(text.splitlines()))


def printable_json(text: str) -> str:
    """Return a JSON text of the same meaning, in which characters that steer a terminal are escaped."""
    return _UNPRINTABLE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def size_text(size: int) -> str:
    """Return a number of bytes, rounded."""
    if size < 1000:
        return f"{size} B"
    value, unit = size / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def duration_text(seconds: float) -> str:
    """Return a duration, rounded."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(timestamp: Any) -> str | None:
    """Return seconds since the epoch as an ISO 8601 time, or ``None`` for what is no such number."""
    found = _moment(timestamp)
    return None if found is None else found.isoformat(timespec="milliseconds")


def local_time(timestamp: Any) -> str:
    """Return seconds since the epoch as a time of this machine's zone, to the second."""
    found = _moment(timestamp)
    return "" if found is None else found.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _moment(timestamp: Any) -> datetime | None:
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        return None
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
