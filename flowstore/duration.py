"""Durations, as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final

Duration = float | timedelta | str
"""Seconds; or a ``timedelta``; or a text such as ``"45s"``, ``"30m"``, ``"12h"``, ``"7d"`` or ``"2w"``."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_TEXT: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smhdw]?)\s*")


def seconds(duration: Duration) -> float:
    """Convert a duration to seconds.

    Raises:
        ValueError: it is negative or not finite, or a text in another format.
        TypeError: it has another type, such as bool.
    """
    if isinstance(duration, str):
        found = _TEXT.fullmatch(duration)
        if found is None:
            raise ValueError(f"{duration!r} is not a duration: write seconds, or a number with s, m, h, d or w (7d)")
        return float(found[1]) * _UNITS[found[2] or "s"]
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, bool) or not isinstance(duration, int | float):
        raise TypeError(f"a duration must be seconds, a timedelta or a text such as '7d', not {duration!r}")
    else:
        value = float(duration)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"a duration must be finite and not negative: {duration!r}")
    return value
