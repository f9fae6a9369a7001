"""A configuration while it is being checked: its tree, its files, and the mistakes found so far."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from flowstore.config.mistakes import Mistake, Place
from flowstore.config.model import Configuration, FlowEntry, StorageEntry, TaskEntry
from flowstore.config.nodes import Fields, Node, Path, Scalar, dotted, locate, scalars
from flowstore.config.source import Source
from flowstore.texts import Span, mask, spans_in_text

# A short secret is masked as a word of its own only: inside other words it would make messages unreadable.
_SECRET_ANYWHERE: Final = 8
_SECRET_WORD: Final = 4


@dataclass(slots=True)
class Document:
    """Collect what is found in one configuration.

    Attributes:
        base: the folder that relative paths start from.
        sources: the files, by name.
        secrets: texts that no message may show.
        storages, tasks, flows: those declared, each with its path in the tree; those that share a name as well.
        keeps_lacking: whether a driver that is not installed is no mistake.
        looks_like_selinons: whether it has what only a file for Selinon has.
    """

    name: str
    base: FilePath
    tree: Fields
    sources: dict[str, Source] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    storages: list[tuple[Path, StorageEntry]] = field(default_factory=list)
    tasks: list[tuple[Path, TaskEntry]] = field(default_factory=list)
    flows: list[tuple[Path, FlowEntry]] = field(default_factory=list)
    configuration: Configuration = field(default_factory=Configuration)
    keeps_lacking: bool = False
    looks_like_selinons: bool = False
    _found: list[Mistake] = field(default_factory=list)

    def node(self, path: Path) -> Node | None:
        """Return what is at a path, or ``None``."""
        _, node, reached = locate(self.tree, path)
        return node if reached == path else None

    def place(self, path: Path, of_key: bool = False) -> Place:
        """Return where the value at a path is (or its key), or what is nearest above it."""
        place, node, _ = locate(self.tree, path)
        return place if of_key else node.place

    def report(self, path: Path, message: str, hint: str | None = None, *, of_key: bool = False) -> None:
        """Add a mistake, unless what is there could not be read at all, which is a mistake of its own."""
        node = self.node(path)
        if of_key or not (isinstance(node, Scalar) and node.problems):
            self.add(Mistake(self.place(path, of_key), dotted(path), message, hint))

    def add(self, *mistakes: Mistake) -> None:
        """Add mistakes as they are."""
        self._found += mistakes

    def mistakes(self) -> list[Mistake]:
        """Return all mistakes in the order of the files' lines, each once, with its line and without secrets."""
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
        """Return a mistake with the line it is about, and with every secret masked."""
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
        shown = self._named_in(text)
        return [(start, end) for start, end in spans if not any(a <= start and end <= b for a, b in shown)]

    def _named_in(self, text: str) -> list[Span]:
        """Return where a text names modules and classes: no secrets, though a password may be a part of such a name."""
        names = {
            scalar.value
            for path, scalar in scalars(self.tree)
            if path[-1] in ("import", "classname")
            and isinstance(scalar.value, str)
            and scalar.value not in self.secrets
        }
        pattern = "|".join(rf"(?<![\w.]){re.escape(name)}(?![\w.])" for name in sorted(names) if name)
        return [found.span() for found in re.finditer(pattern, text)] if pattern else []
