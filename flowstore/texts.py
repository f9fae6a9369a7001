"""Texts for people: bounded, storable, and without secrets."""

from __future__ import annotations

import builtins
import re
import reprlib
from collections.abc import Iterator
from typing import Any, Final

from flowstore.interrupts import is_interrupt

MAX_TEXT: Final = 10_000
"""Characters kept of one text."""

_MAX_PARTS: Final = 1000
_MIN_TEXT: Final = 100
_MAX_BITS: Final = 2000
"""Python converts integers of this many bits to decimal, whatever ``sys.set_int_max_str_digits`` says."""

MASK: Final = "***"

Span = tuple[int, int]
"""Start and end of a part of a line, from 0."""

_NAMES = r"pass(?:word|wd|phrase)|pwd|secret|token|credential|(?:private|access|api|secret|encryption)[_-]?key"
_SECRET_NAME: Final = re.compile(rf"{_NAMES}|(?:^|[_-])(?:keys?|pass)$", re.IGNORECASE)
_IN_TEXT: Final = (
    re.compile(r"://[^/:@\s]*:(?P<secret>.+)@"),
    re.compile(r"(?<![\w+/=-])(?P<secret>[\w+/-]{43}=)(?![\w+/=-])"),  # a key of 32 bytes in base64
    re.compile(rf"\b[\w-]*(?:{_NAMES})[\w-]*\s*=\s*(?P<secret>[^\s&;'\",}}]+)", re.IGNORECASE),
)
_KEY_VALUE: Final = re.compile(
    rf"(?:[\w-]*(?:{_NAMES})[\w-]*|\b(?:[\w-]+[_-])?(?:keys?|pass))['\"]?\s*:\s*(?P<secret>\S.*)$", re.IGNORECASE
)


def summarize(exc: BaseException, max_length: int = 200) -> str:
    """Return the type and message of an exception, cut to ``max_length``.

    Works for any exception, even if its ``str()`` raises or returns invalid Unicode.
    """
    message = TextBudget(max_length).str_of(exc)
    name = escape_surrogates(type(exc).__name__)
    return (f"{name}: {message}" if message else name)[:max_length]


def escape_surrogates(text: str) -> str:
    """Escape lone surrogates, which UTF-8 can't encode."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def is_decimal_safe(value: int) -> bool:
    """Return whether the integer converts to and from decimal everywhere."""
    return value.bit_length() <= _MAX_BITS


class TextBudget:
    """Convert anything to texts whose total length is bounded.

    Args:
        budget: characters of all texts together; once it is used up, each text still gets 100.
    """

    def __init__(self, budget: int) -> None:
        self._left = budget

    def str_of(self, value: object) -> str:
        """Return ``str(value)``, or a placeholder if that raises."""
        try:
            text = str(value)
        except Exception as broken:
            if is_interrupt(broken):
                raise
            text = f"<no text: str() of it raised {type(broken).__name__}>"
        return self.cut(text)

    def repr_of(self, value: object) -> str:
        """Return a shortened ``repr(value)``, or a placeholder if that raises."""
        try:
            text = _Repr().repr(value)
        except Exception as broken:
            if is_interrupt(broken):
                raise
            text = f"<no repr: repr() of it raised {type(broken).__name__}>"
        return self.cut(text)

    def cut(self, text: str) -> str:
        """Return the text with surrogates escaped, cut if it is too long."""
        length, limit = str.__len__(text), min(MAX_TEXT, max(self._left, _MIN_TEXT))
        kept = escape_surrogates(str.__getitem__(text, slice(limit)))
        self._left -= len(kept)
        return kept if length <= limit else f"{kept}… ({length} characters)"


class _Repr(reprlib.Repr):
    """Show a bounded number of parts of a value, each of bounded length."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 20
        self.maxstring = self.maxother = self.maxlong = 1000
        self._left = _MAX_PARTS

    def repr1(self, x: Any, level: int) -> str:
        self._left -= 1
        return "…" if self._left < 0 else super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        text = builtins.repr(x) if is_decimal_safe(x) else hex(x)
        return text if len(text) <= self.maxlong else f"{text[: self.maxlong]}… ({x.bit_length()} bits)"

    def repr_bytes(self, x: bytes, level: int) -> str:
        text = builtins.repr(x[: self.maxother])
        return text if len(x) <= self.maxother else f"{text}… ({len(x)} bytes)"

    repr_bytearray = repr_bytes


def is_secret_name(name: object) -> bool:
    """Return whether values with this name are secret."""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def spans_in_text(text: str) -> Iterator[Span]:
    """Yield the spans of passwords in URLs and ``name=value`` lists."""
    for pattern in _IN_TEXT:
        for found in pattern.finditer(text):
            yield found.span("secret")


def spans_of_keys(text: str, start: int = 0) -> Iterator[Span]:
    """Yield the spans of likely secrets in YAML that can't be parsed."""
    for found in _KEY_VALUE.finditer(text, start):
        yield found.span("secret")


def mask(line: str, spans: list[Span], column: int | None = None) -> tuple[str, int | None]:
    """Mask spans of a line; also return where a column (from 1) is now."""
    parts: list[str] = []
    end = 0
    moved = column
    for start, stop in _merged(spans):
        parts += [line[end:start], MASK]
        end = stop
        if column is not None and column > start:
            after = sum(map(len, parts))
            moved = after + column - stop if column > stop else after - len(MASK) + 1
    return "".join([*parts, line[end:]]), moved


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            start, stop = merged[-1][0], max(stop, merged.pop()[1])
        merged.append((start, stop))
    return merged
