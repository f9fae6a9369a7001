"""Secrets in a configuration: found, and read from files."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final

from flowstore.config.document import Fields, Node, Path, ScalarNode, children, scalars
from flowstore.config.variables import literal_parts
from flowstore.texts import is_secret_name, spans_in_text

_LONGEST: Final = 1 << 20


def file_of(node: Node) -> Node | None:
    """Return the path in ``{file: path}``, or None for other values."""
    if isinstance(node, Fields) and list(node.entries) == ["file"]:
        return node.entries["file"].node
    return None


def read_secret(path: str, base: FilePath) -> str:
    """Return the content of a secret's file, without its last newline.

    Raises:
        OSError: the file can't be read or is too large, such as an endless device.
        ValueError: it is not UTF-8 text.
    """
    with (base / path).open("rb") as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise OSError(errno.EFBIG, f"it has more than {_LONGEST} bytes")
    return data.decode().removesuffix("\n").removesuffix("\r")


def plain_secrets(configuration: Node, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each secret that is written in plain text."""
    for step, child in children(configuration):
        here = (*path, step)
        if is_secret_name(step):
            yield from _in_plain_text(child, here)
            continue
        if not isinstance(child, Fields) and any(
            _has_plain_secret(each.text) for _, each in scalars(child) if each.text is not None
        ):
            yield here
        elif isinstance(child, Fields):
            yield from plain_secrets(child, here)


def _in_plain_text(node: Node, path: Path) -> Iterator[Path]:
    if isinstance(node, ScalarNode) and node.text and literal_parts(node.text):
        yield path
    if file_of(node) is None:
        for step, child in children(node):
            yield from _in_plain_text(child, (*path, step))


def _has_plain_secret(text: str) -> bool:
    return any(literal_parts(text[start:stop]) for start, stop in spans_in_text(text))


def known_secrets(node: Node, secret: bool = False) -> Iterator[str]:
    """Yield every secret text of a tree, with variables expanded."""
    for step, child in children(node):
        yield from known_secrets(child, (secret or is_secret_name(step)) and file_of(child) is None)
    if isinstance(node, ScalarNode):
        text = node.value if node.expanded is None else node.expanded
        if secret and not isinstance(text, bool | None):
            yield str(text)
        if isinstance(text, str):
            yield from (text[start:stop] for start, stop in spans_in_text(text))
