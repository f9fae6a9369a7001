"""Texts of anything: bounded, storable, and made without raising."""

from __future__ import annotations

import builtins
import reprlib
from typing import Any, Final

from flowstore.interrupts import is_interrupt

MAX_TEXT: Final = 10_000
"""Characters kept of one text."""

_MAX_PARTS: Final = 1000
_LEAST: Final = 100
_MAX_BITS: Final = 2000
"""Python writes integers of so many bits in decimal, whatever limit is set for that."""


def summary(exc: BaseException, most: int = 200) -> str:
    """Return type and message of an exception, in up to so many characters.

    Any exception has one: also where ``str()`` of it raises, or gives what is no Unicode text.
    """
    message = Texts(most).of(exc)
    name = clean(type(exc).__name__)
    return (f"{name}: {message}" if message else name)[:most]


def clean(text: str) -> str:
    """Return a text in which lone surrogates are escaped, which no UTF-8 can hold."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def fits(value: int) -> bool:
    """Return whether an integer can be written and read in decimal everywhere."""
    return value.bit_length() <= _MAX_BITS


class Texts:
    """Make texts of anything, each and all together of a bounded length.

    Args:
        budget: how many characters all texts may have; each later one still gets up to 100.
    """

    def __init__(self, budget: int) -> None:
        self._left = budget

    def of(self, value: object) -> str:
        """Return what ``str()`` gives, or why there is none."""
        try:
            text = str(value)
        except Exception as broken:
            if is_interrupt(broken):
                raise
            text = f"<no text: str() of it raised {type(broken).__name__}>"
        return self.cut(text)

    def shown(self, value: object) -> str:
        """Return what ``repr()`` gives, shortened, or why there is none."""
        try:
            text = _Repr().repr(value)
        except Exception as broken:
            if is_interrupt(broken):
                raise
            text = f"<no repr: repr() of it raised {type(broken).__name__}>"
        return self.cut(text)

    def cut(self, text: str) -> str:
        """Return a text as it may be kept: cleaned, and its beginning only where it is too long."""
        length, most = str.__len__(text), min(MAX_TEXT, max(self._left, _LEAST))
        kept = clean(str.__getitem__(text, slice(most)))
        self._left -= len(kept)
        return kept if length <= most else f"{kept}… ({length} characters)"


class _Repr(reprlib.Repr):
    """Show no more than some parts of a value, and of each the beginning."""

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
        text = builtins.repr(x) if fits(x) else hex(x)
        return text if len(text) <= self.maxlong else f"{text[: self.maxlong]}… ({x.bit_length()} bits)"

    def repr_bytes(self, x: bytes, level: int) -> str:
        text = builtins.repr(x[: self.maxother])
        return text if len(x) <= self.maxother else f"{text}… ({len(x)} bytes)"

    repr_bytearray = repr_bytes
