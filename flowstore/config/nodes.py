"""A configuration as a tree whose parts remember where they were written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flowstore.config.mistakes import Place

Path = tuple[Any, ...]
"""Keys and indices from the root of a tree."""

DEEPEST: Final = 100
"""Levels of nesting that are read; a configuration has about six."""

_LONGEST_PATH: Final = 12


class TooDeepError(Exception):
    """A tree is nested deeper than ``DEEPEST``, or contains itself."""

    def __init__(self, place: Place, path: Path) -> None:
        super().__init__("nested too deeply")
        self.place = place
        self.path = path


@dataclass(slots=True)
class Problem:
    """Why a value can't be used; it becomes a mistake unless the value is overridden."""

    message: str
    hint: str | None = None


@dataclass(slots=True)
class Scalar:
    """A single value.

    Attributes:
        text: a string, or an unquoted scalar of a file, as it was written.
        plain: whether it was written without quotes.
        expanded: the text after its variables were put in, where it consists of variables alone.
        problems: why the value can't be used.
    """

    place: Place
    value: Any
    text: str | None = None
    plain: bool = False
    expanded: str | None = None
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Items:
    """A list."""

    place: Place
    items: list[Node]


@dataclass(slots=True)
class Entry:
    """A key's place and its value."""

    place: Place
    node: Node


@dataclass(slots=True)
class Fields:
    """A mapping."""

    place: Place
    entries: dict[Any, Entry]

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry.node if entry else None

    def rename(self, key: str, meant: str) -> None:
        """Go on as if a misspelt key had been spelt as it was meant, so that its value is checked too."""
        self.entries[meant] = self.entries.pop(key)


Node = Scalar | Items | Fields


def from_data(value: Any, place: Place, path: Path = ()) -> Node:
    """Make a tree of plain Python data, all of it at one place.

    Raises:
        TooDeepError: the data is nested too deeply, or contains itself.
    """
    if len(path) > DEEPEST:
        raise TooDeepError(place, path)
    if isinstance(value, Mapping):
        return Fields(place, {key: Entry(place, from_data(each, place, (*path, key))) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return Items(place, [from_data(each, place, (*path, index)) for index, each in enumerate(value)])
    return Scalar(place, value, text=value if isinstance(value, str) else None)


def to_data(node: Node) -> Any:
    """Return the plain Python data of a tree; a new object each time."""
    if isinstance(node, Fields):
        return {key: to_data(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [to_data(each) for each in node.items]
    return node.value


def children(node: Node) -> Iterator[tuple[Any, Node]]:
    """Yield the keys or indices directly below a node, each with its value."""
    if isinstance(node, Fields):
        for key, entry in node.entries.items():
            yield key, entry.node
    elif isinstance(node, Items):
        yield from enumerate(node.items)


def scalars(node: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Yield every scalar of a tree with its path."""
    if isinstance(node, Scalar):
        yield path, node
    for step, child in children(node):
        yield from scalars(child, (*path, step))


def is_sound(node: Node) -> bool:
    """Tell whether every value in the tree can be used."""
    return not any(scalar.problems for _, scalar in scalars(node))


def locate(root: Node, path: Path) -> tuple[Place, Node, Path]:
    """Follow a path as far as it goes.

    Returns:
        The place of the last key that was found (of an item: of the item itself), its value, and the path to it.
    """
    place, node = root.place, root
    for depth, step in enumerate(path):
        if isinstance(node, Fields) and step in node.entries:
            place, node = node.entries[step].place, node.entries[step].node
        elif isinstance(node, Items) and isinstance(step, int) and 0 <= step < len(node.items):
            node = node.items[step]
            place = node.place
        else:
            return place, node, path[:depth]
    return place, node, path


def dotted(path: Path) -> str:
    """Return a path as people write it."""
    return ".".join(map(str, path if len(path) <= _LONGEST_PATH else (*path[:_LONGEST_PATH], "…")))
