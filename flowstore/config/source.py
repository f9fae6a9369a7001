"""The lines of a configuration file, and which parts of them are secret."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import Final

from flowstore.texts import Span, is_secret_name, spans_of_keys

_LINE_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_COMMENT: Final = re.compile(r"(?:^|\s)#")
_KEY: Final = re.compile(r"(?P<indent>\s*(?:-\s+)*)['\"]?(?P<key>[\w.-]+)['\"]?\s*:(?:\s|$)")

Mark = tuple[int, int]
"""Line and column, from 0."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, and where it holds values of secrets."""

    text: str
    secrets: list[Span]


@dataclass(slots=True)
class Source:
    """A file's text and the spans of it that are secret.

    ``parsed`` tells whether the spans are known; in a file that is not valid YAML they are guessed, generously.
    """

    file: str
    text: str
    parsed: bool = False
    secrets: list[tuple[Mark, Mark]] = field(default_factory=list)

    def line(self, number: int) -> Line | None:
        """Return a line (from 1); ``None`` past the end."""
        lines = _LINE_BREAK.split(self.text)
        if not 0 < number <= len(lines):
            return None
        text = lines[number - 1]
        return Line(text, self._marked(number - 1, text) if self.parsed else _guessed(lines, number - 1))

    def holds_secret(self, number: int) -> bool:
        """Tell whether a line (from 1) of a file that can't be parsed may hold a secret."""
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
    """Find what follows a secret's key, and whether the line goes on with the value of one above it."""
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
