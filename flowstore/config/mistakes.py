"""What is wrong in a configuration, where, and how it is shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_WIDEST = 160
_LONGEST_LIST = 12
_SURE = 0.85


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a file (or what stands for one), line and column from 1.

    ``str`` gives ``file:line:column``, without the parts that aren't known.
    """

    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct in a configuration.

    Attributes:
        place: where it is.
        path: the same place as a dotted path of keys and indices; empty for the whole configuration.
        message: what is wrong; never holds a secret.
        hint: what to do, as a sentence of its own.
        source_line: the line of the file, with secrets masked.
        caret: the column to point at in ``source_line``, where masking moved it away from ``place.column``.
    """

    place: Place
    path: str
    message: str
    hint: str | None = None
    source_line: str | None = None
    caret: int | None = None

    def __str__(self) -> str:
        head = ": ".join(part for part in (str(self.place), self.path, self.message) if part)
        if self.hint:
            head += f"{'' if head.endswith(('.', '?', '!')) else '.'} {self.hint}"
        lines = [_printable(head)]
        if self.source_line is not None:
            lines += self._excerpt(self.source_line)
        return "\n".join(lines)

    def _excerpt(self, line: str) -> list[str]:
        column = self.caret or self.place.column
        start = 0
        if len(line) > _WIDEST:
            start = max(0, (column or 1) - _WIDEST // 2)
        shown = _printable(line[start : start + _WIDEST])
        if column is None:
            return [shown]
        before = shown[: max(0, column - 1 - start)]
        return [shown, "".join("\t" if character == "\t" else " " for character in before) + "^"]


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the name that ``word`` was probably meant to be, or ``None``."""
    by_lower = {name.lower(): name for name in sorted(known)}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def is_misspelt(word: str, meant: str) -> bool:
    """Return whether a word is surely another one with a slip in it, and not only like it."""
    return difflib.SequenceMatcher(None, word.lower(), meant.lower()).ratio() >= _SURE


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a sentence that offers what ``word`` was probably meant to be, else all there is, else ``None``."""
    names = sorted(known)
    meant = closest(word, names)
    if meant is not None:
        return f"Did you mean {meant!r}?"
    if names and len(names) <= _LONGEST_LIST:
        return f"Known: {', '.join(names)}."
    return None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character in "\t\n" else "\ufffd" for character in text)
