"""A configuration as a tree with places, and the mistakes found in it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from flowstore.config.mistakes import Mistake, Place, SourceText
from flowstore.config.model import Configuration, FlowEntry, StorageEntry, TaskEntry
from flowstore.texts import Span, mask, spans_in_text

Path = tuple[Any, ...]
"""Keys and indices from the root of a tree."""

DEEPEST: Final = 100
"""Levels of nesting that are read; a configuration has about six."""

_LONGEST_PATH: Final = 12
# A short secret is masked only where it is a whole word: inside other words it would make messages unreadable.
_SECRET_ANYWHERE: Final = 8
_SECRET_WORD: Final = 4


class TooDeepError(Exception):
    """A tree is nested deeper than ``DEEPEST``, or contains itself."""

    def __init__(self, place: Place, path: Path) -> None:
        super().__init__("nested too deeply")
        self.place = place
        self.path = path


@dataclass(slots=True)
class NodeProblem:
    """Why a value can't be used: a mistake, unless it is overridden."""

    message: str
    hint: str | None = None


@dataclass(slots=True)
class ScalarNode:
    """A single value.

    Attributes:
        text: a string, or an unquoted scalar of a file, as it was written.
        plain: whether it was written without quotes.
        expanded: the text with its variables put in, if it consists of variables alone.
        problems: why the value can't be used.
    """

    place: Place
    value: Any
    text: str | None = None
    plain: bool = False
    expanded: str | None = None
    problems: list[NodeProblem] = field(default_factory=list)


@dataclass(slots=True)
class Items:
    """A list."""

    place: Place
    items: list[Node]


@dataclass(slots=True)
class Field:
    """The place of a key, and its value."""

    place: Place
    node: Node


@dataclass(slots=True)
class Fields:
    """A mapping."""

    place: Place
    entries: dict[Any, Field]

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry.node if entry else None

    def rename(self, key: str, meant: str) -> None:
        """Give a misspelt key its right name, so that its value is checked too."""
        self.entries[meant] = self.entries.pop(key)


Node = ScalarNode | Items | Fields


def from_data(value: Any, place: Place, path: Path = ()) -> Node:
    """Return a tree of plain Python data, all of it at one place.

    Raises:
        TooDeepError: the data is nested too deeply, or contains itself.
    """
    if len(path) > DEEPEST:
        raise TooDeepError(place, path)
    if isinstance(value, Mapping):
        return Fields(place, {key: Field(place, from_data(each, place, (*path, key))) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return Items(place, [from_data(each, place, (*path, index)) for index, each in enumerate(value)])
    return ScalarNode(place, value, text=value if isinstance(value, str) else None)


def to_data(node: Node) -> Any:
    """Return the plain Python data of a tree; a new object each time."""
    if isinstance(node, Fields):
        return {key: to_data(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [to_data(each) for each in node.items]
    return node.value


def children(node: Node) -> Iterator[tuple[Any, Node]]:
    """Yield the keys or indices directly below a node, with their values."""
    if isinstance(node, Fields):
        for key, entry in node.entries.items():
            yield key, entry.node
    elif isinstance(node, Items):
        yield from enumerate(node.items)


def scalars(node: Node, path: Path = ()) -> Iterator[tuple[Path, ScalarNode]]:
    """Yield every scalar of a tree with its path."""
    if isinstance(node, ScalarNode):
        yield path, node
    for step, child in children(node):
        yield from scalars(child, (*path, step))


def is_usable(node: Node) -> bool:
    """Return whether every value in the tree can be used."""
    return not any(scalar.problems for _, scalar in scalars(node))


def locate(root: Node, path: Path) -> tuple[Place, Node, Path]:
    """Follow a path as far as it goes.

    Returns:
        The place of the last key that was found (for an item of a list, of the item), its value, and the path to it.
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


@dataclass(slots=True)
class Document:
    """A configuration while it is read and checked.

    Attributes:
        base: the folder that relative paths start from.
        sources: the files, by name.
        secrets: texts that no message may show.
        storages, tasks, flows: the declared entries, each with its path in the tree; duplicates too.
        allows_missing_drivers: whether a storage may be loaded although its driver is not installed.
        looks_like_selinon: whether it has keys that only a file for Selinon has.
    """

    name: str
    base: FilePath
    tree: Fields
    sources: dict[str, SourceText] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    storages: list[tuple[Path, StorageEntry]] = field(default_factory=list)
    tasks: list[tuple[Path, TaskEntry]] = field(default_factory=list)
    flows: list[tuple[Path, FlowEntry]] = field(default_factory=list)
    configuration: Configuration = field(default_factory=Configuration)
    allows_missing_drivers: bool = False
    looks_like_selinon: bool = False
    _found: list[Mistake] = field(default_factory=list)

    def node(self, path: Path) -> Node | None:
        """Return what is at a path, or None."""
        _, node, reached = locate(self.tree, path)
        return node if reached == path else None

    def place(self, path: Path, of_key: bool = False) -> Place:
        """Return the place of the value at a path, or of its key.

        If nothing is at the path, it is the place of the nearest node above.
        """
        place, node, _ = locate(self.tree, path)
        return place if of_key else node.place

    def report(self, path: Path, message: str, hint: str | None = None, *, of_key: bool = False) -> None:
        """Add a mistake, unless its value is already reported as unusable."""
        node = self.node(path)
        if of_key or not (isinstance(node, ScalarNode) and node.problems):
            self.add(Mistake(self.place(path, of_key), dotted(path), message, hint))

    def add(self, *mistakes: Mistake) -> None:
        """Add mistakes as they are."""
        self._found += mistakes

    def mistakes(self) -> list[Mistake]:
        """Return all mistakes, once each, in the order of the files' lines.

        Each has its line, and secrets are masked.
        """
        files = list(self.sources)

        def order(mistake: Mistake) -> tuple[int, int, int]:
            place = mistake.place
            file = files.index(place.file) if place.file in files else len(files)
            return file, place.line or 0, place.column or 0

        # A line that several entries share through an anchor is reported once.
        unique: dict[tuple[Place, str, str], Mistake] = {}
        for each in self._found:
            unique.setdefault((each.place, each.message, "" if each.place.line else each.path), each)
        found = sorted(unique.values(), key=order)
        return [self.shown(each) for each in found]

    def shown(self, mistake: Mistake) -> Mistake:
        """Return a mistake with its line added and every secret masked."""
        place = mistake.place
        source = self.sources.get(place.file or "")
        line = source.line(place.line) if source and place.line else None
        text, caret = None, None
        if line is not None:
            text, caret = mask(line.text, [*line.secrets, *self._secrets_in(line.text)], place.column)
        return dataclasses.replace(
            mistake,
            message=self._masked(mistake.message),
            hint=self._masked(mistake.hint) if mistake.hint else None,
            source_line=text,
            caret=caret,
        )

    def _masked(self, text: str) -> str:
        return mask(text, self._secrets_in(text))[0]

    def _secrets_in(self, text: str) -> list[Span]:
        spans = list(spans_in_text(text))
        for secret in self.secrets:
            pattern = re.escape(secret)
            if len(secret) < _SECRET_ANYWHERE:
                pattern = rf"(?<!\w){pattern}(?!\w)"
            if len(secret) >= _SECRET_WORD:
                spans += (found.span() for found in re.finditer(pattern, text))
        shown = self._names_in(text)
        return [(start, end) for start, end in spans if not any(a <= start and end <= b for a, b in shown)]

    def _names_in(self, text: str) -> list[Span]:
        """Return where a text names modules and classes.

        They are shown even if a password is part of such a name.
        """
        names = {
            scalar.value
            for path, scalar in scalars(self.tree)
            if path[-1] in ("import", "classname")
            and isinstance(scalar.value, str)
            and scalar.value not in self.secrets
        }
        pattern = "|".join(rf"(?<![\w.]){re.escape(name)}(?![\w.])" for name in sorted(names) if name)
        return [found.span() for found in re.finditer(pattern, text)] if pattern else []
