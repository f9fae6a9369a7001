"""Texts for terminals: printable, with sizes, durations and times."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

LINES: Final = "\n\t"
"""The control characters that texts of several lines may hold, for ``keep``."""

_UNUSUAL = re.compile(r"[^\x20-\x7e\n\t]")


def printable(text: str, keep: str = "") -> str:
    """Return a text with unprintable characters escaped, as ``repr`` does."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    """Return a text as one printable line."""
    return printable(" ".join(text.replace("\t", " ").splitlines()))


def printable_json(text: str) -> str:
    """Return an equal JSON text with unprintable characters escaped."""
    return _UNUSUAL.sub(_json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    # Outside of strings, where escapes are not allowed, this is the only unprintable character of JSON.
    return " " if character == "\r" else json.dumps(character)[1:-1]


def count_text(count: int, noun: str) -> str:
    """Return a number and its noun, such as "1 record" or "2 records"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def size_text(size: int | None) -> str:
    """Return a rounded number of bytes with its unit."""
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
    """Return a rounded duration with its unit."""
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
    """Return seconds since the epoch in ISO 8601, or ``None`` if invalid."""
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        return None
    try:
        return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None


def local_time(moment: str | None) -> str:
    """Return an ISO 8601 time in the local time zone, to the second."""
    return "" if moment is None else f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"
