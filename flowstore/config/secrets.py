"""What is secret in a configuration, by its name or inside a URL."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final

from flowstore.config.expand import literal_parts
from flowstore.config.nodes import Fields, Node, Path, Scalar, children, scalars

MASK: Final = "***"

_LONGEST: Final = 1 << 20

Span = tuple[int, int]
"""Beginning and end of a part of a line, from 0."""

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


def is_secret_name(name: object) -> bool:
    """Tell whether values of that name are to be kept from view."""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def spans_in_text(text: str) -> Iterator[Span]:
    """Yield where a text holds the password of a URL or of a ``name=value`` list."""
    for pattern in _IN_TEXT:
        for found in pattern.finditer(text):
            yield found.span("secret")


def spans_of_keys(text: str, start: int = 0) -> Iterator[Span]:
    """Yield where a line of YAML that can't be parsed probably holds a secret."""
    for found in _KEY_VALUE.finditer(text, start):
        yield found.span("secret")


def mask(line: str, spans: list[Span], column: int | None = None) -> tuple[str, int | None]:
    """Mask spans of a line; also return where the given column (from 1) is now."""
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


def file_of(node: Node) -> Node | None:
    """Return the path of a secret that is given as ``{file: path}``, else ``None``."""
    if isinstance(node, Fields) and list(node.entries) == ["file"]:
        return node.entries["file"].node
    return None


def read_secret(path: str, base: FilePath) -> str:
    """Return what a secret's file holds, without its last newline.

    Raises:
        OSError: the file can't be read, or is longer than any secret: a device, for example, that never ends.
        ValueError: it isn't UTF-8 text.
    """
    with (base / path).open("rb") as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise OSError(errno.EFBIG, f"it is longer than any secret, with more than {_LONGEST} bytes")
    return data.decode().removesuffix("\n").removesuffix("\r")


def plain_secrets(configuration: Node, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each secret that is written out, neither from a variable nor from a file."""
    for step, child in children(configuration):
        here = (*path, step)
        if is_secret_name(step):
            yield from _written_out(child, here)
            continue
        if not isinstance(child, Fields) and any(
            _written_inside(each.text) for _, each in scalars(child) if each.text is not None
        ):
            yield here
        elif isinstance(child, Fields):
            yield from plain_secrets(child, here)


def _written_out(node: Node, path: Path) -> Iterator[Path]:
    if isinstance(node, Scalar) and node.text and literal_parts(node.text):
        yield path
    if file_of(node) is None:
        for step, child in children(node):
            yield from _written_out(child, (*path, step))


def _written_inside(text: str) -> bool:
    return any(literal_parts(text[start:stop]) for start, stop in spans_in_text(text))


def known_secrets(node: Node, secret: bool = False) -> Iterator[str]:
    """Yield every secret text of a tree, as it is after expansion."""
    for step, child in children(node):
        yield from known_secrets(child, (secret or is_secret_name(step)) and file_of(child) is None)
    if isinstance(node, Scalar):
        text = node.value if node.expanded is None else node.expanded
        if secret and not isinstance(text, bool | None):
            yield str(text)
        if isinstance(text, str):
            yield from (text[start:stop] for start, stop in spans_in_text(text))
