"""Texts for people: nothing in them can command a terminal."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

LINES: Final = "\n\t"
"""What printable texts of several lines keep."""

_UNUSUAL = re.compile(r"[^\x20-\x7e\n\t]")


def printable(text: str, keep: str = "") -> str:
    """Return a text in which every character that doesn't print is written as its number, as in Python's ``repr``."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    """Return a text in one printable line."""
    return printable(" ".join(text.replace("\t", " ").splitlines()))


def printable_json(text: str) -> str:
    """Return a JSON text of the same meaning, in which every character that doesn't print is escaped."""
    return _UNUSUAL.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable():
        return character
    # Between values, where escapes are not allowed, JSON has no such characters but this one.
    return " " if character == "\r" else json.dumps(character)[1:-1]


def size_text(size: int | None) -> str:
    """Return a number of bytes, rounded."""
    if size is None:
        return ""
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
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(timestamp: Any) -> str | None:
    """Return seconds since the epoch as an ISO 8601 time, or ``None`` for what is no such number."""
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        return None
    try:
        return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None


def local_time(moment: str | None) -> str:
    """Return an ISO 8601 time as one of this machine's zone, to the second."""
    return "" if moment is None else f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"
