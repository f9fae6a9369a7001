"""What is wrong in a configuration, where, and how it is shown."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from flowstore.texts import Span, is_secret_name, spans_of_keys

_WIDEST: Final = 160
_LONGEST_LIST: Final = 12
_SURE: Final = 0.85
_LINE_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_COMMENT: Final = re.compile(r"(?:^|\s)#")
_KEY: Final = re.compile(r"(?P<indent>\s*(?:-\s+)*)['\"]?(?P<key>[\w.-]+)['\"]?\s*:(?:\s|$)")

Mark = tuple[int, int]
"""Line and column, from 0."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file, line and column (from 1), each None if unknown.

    The file may also be a variable or an override. ``str`` returns ``file:line:column``, without unknown parts.
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
        hint: what to do, as a sentence.
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


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character in "\t\n" else "\ufffd" for character in text)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, and which parts of it are secret."""

    text: str
    secrets: list[Span]


@dataclass(slots=True)
class SourceText:
    """The lines of a configuration file, to show with mistakes.

    Attributes:
        parsed: whether ``secrets`` is complete. In a file that is not valid YAML, secrets are guessed, and rather
            too much is masked than too little.
        secrets: the parts that are secret, from the first character to the one after the last.
    """

    file: str
    text: str
    parsed: bool = False
    secrets: list[tuple[Mark, Mark]] = field(default_factory=list)

    def line(self, number: int) -> Line | None:
        """Return a line (from 1), or None past the end."""
        lines = _LINE_BREAK.split(self.text)
        if not 0 < number <= len(lines):
            return None
        text = lines[number - 1]
        return Line(text, self._marked(number - 1, text) if self.parsed else _guessed(lines, number - 1))

    def holds_secret(self, number: int) -> bool:
        """Return whether a line (from 1) of an invalid file may hold a secret."""
        line = self.line(number)
        return line is not None and bool(line.secrets)

    def _marked(self, row: int, text: str) -> list[Span]:
        spans = [
            (start[1] if start[0] == row else 0, stop[1] if stop[0] == row else len(text))
            for start, stop in self.secrets
            if start[0] <= row <= stop[0]
        ]
        for comment in _COMMENT.finditer(text):
            spans += spans_of_keys(text, comment.end())
        return [(start, stop) for start, stop in spans if start < stop]


def _guessed(lines: list[str], row: int) -> list[Span]:
    """Return what follows the key of a secret in this line.

    If the line may continue the value of a secret in a line above, it is the whole line.
    """
    text = lines[row]
    spans = list(spans_of_keys(text))
    own = _KEY.match(text)
    indent = len(own["indent"]) if own else sys.maxsize
    for above in reversed(lines[:row]):
        found = _KEY.match(above)
        if found and len(found["indent"]) < indent:
            indent = len(found["indent"])
            if is_secret_name(found["key"]) and text:
                spans.append((0, len(text)))
    return spans


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the name that was probably meant by ``word``, or None."""
    by_lower = {name.lower(): name for name in sorted(known)}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def is_misspelt(word: str, meant: str) -> bool:
    """Return whether ``word`` is certainly a misspelling of ``meant``."""
    return difflib.SequenceMatcher(None, word.lower(), meant.lower()).ratio() >= _SURE


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a sentence that offers the closest name, or None.

    If no name is close, it lists all of them, unless there are too many.
    """
    names = sorted(known)
    meant = closest(word, names)
    if meant is not None:
        return f"Did you mean {meant!r}?"
    if names and len(names) <= _LONGEST_LIST:
        return f"Known: {', '.join(names)}."
    return None
