"""From YAML text to a tree with places.

Values are those of PyYAML's safe loader. Duplicate keys, unquoted ``{VAR}`` and aliases that expand without end are
mistakes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from flowstore.config.document import DEEPEST, Field, Fields, Items, Node, NodeProblem, Path, ScalarNode, dotted
from flowstore.config.mistakes import Mistake, Place, SourceText
from flowstore.config.secrets import file_of
from flowstore.config.variables import VARIABLE_NAME
from flowstore.texts import is_secret_name

MOST_VALUES: Final = 100_000
"""Values that a file may have once its aliases are expanded."""

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
_PLAIN_TAGS: Final = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "timestamp"))
_TYPED_TAGS: Final = _PLAIN_TAGS | {_TAG + "binary"}
_TEXT_TAGS: Final = frozenset(_TAG + name for name in ("str", "merge", "value"))
_UNQUOTED: Final = re.compile(rf"(?::\s|[,\[{{])\s*[^\s'\"]*?(\$?\{{{VARIABLE_NAME.pattern}[^}}]*\}})")


class _TooManyValuesError(Exception):
    """The aliases of a file expand to more than ``MOST_VALUES`` values."""


def resolve_plain(text: str) -> Any:
    """Return the value of an unquoted scalar in YAML.

    It is a number, a boolean, null, a date, or the text itself.
    """
    loader = yaml.SafeLoader("")
    try:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if tag in _PLAIN_TAGS:
            return loader.construct_object(yaml.ScalarNode(tag, text))
    except (ValueError, yaml.YAMLError):
        return text
    finally:
        loader.dispose()
    return text


@dataclass(slots=True)
class Parsed:
    """The tree of a file, and the mistakes in its YAML.

    The tree is None if the file is not valid YAML, is empty or is not a mapping.
    """

    source: SourceText
    tree: Fields | None = None
    mistakes: list[Mistake] = field(default_factory=list)


def parse(text: str, file: str) -> Parsed:
    """Parse the text of a configuration file.

    Mistakes are returned, not raised.
    """
    parsed = Parsed(SourceText(file, text))
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as exc:
        parsed.mistakes.append(_syntax_mistake(exc, parsed.source))
        return parsed
    except yaml.reader.ReaderError as exc:
        before = text[: exc.position]
        place = Place(file, before.count("\n") + 1, exc.position - before.rfind("\n"))
        message = f"a character that YAML does not allow: U+{ord(text[exc.position]):04X}"
        parsed.mistakes.append(Mistake(place, "", message))
        return parsed
    except RecursionError:
        parsed.mistakes.append(Mistake(Place(file), "", f"nested deeper than {DEEPEST} levels"))
        return parsed
    builder = _Builder(parsed)
    parsed.source.parsed = True
    if len(documents) > 1:
        message = "a second YAML document begins here, but a configuration is a single one"
        parsed.mistakes.append(Mistake(builder.place(documents[1]), "", message, "Remove the line '---' before it."))
    if not documents or builder.is_null(documents[0]):
        parsed.mistakes.append(Mistake(Place(file), "", "the file is empty", "Declare at least one storage in it."))
        return parsed
    try:
        tree = builder.build(documents[0], ())
    except _TooManyValuesError:
        parsed.mistakes.append(Mistake(Place(file), "", f"its aliases expand to more than {MOST_VALUES:,} values"))
        return parsed
    if isinstance(tree, Fields):
        parsed.tree = tree
    else:
        message = "a configuration must be a mapping with keys such as 'storages' and 'tasks'"
        parsed.mistakes.append(Mistake(tree.place, "", message))
    return parsed


def _syntax_mistake(exc: yaml.MarkedYAMLError, source: SourceText) -> Mistake:
    at_end = exc.problem is not None and exc.problem.endswith("end of stream")
    mark = (exc.context_mark if at_end else None) or exc.problem_mark
    place = Place(source.file, mark.line + 1, mark.column + 1) if mark else Place(source.file)
    if place.line and source.holds_secret(place.line):
        # PyYAML may name an alias or a tag that is really the beginning of an unquoted password.
        return Mistake(place, "", "not valid YAML: the value of a secret can't be read", "Quote the value.")
    message = ", ".join(part for part in (exc.context, exc.problem) if part)
    hint = None
    for line in source.text.splitlines()[max(0, (place.line or 1) - 2) : place.line]:
        found = _UNQUOTED.search(line)
        if found:
            hint = f"Quote the value that holds {found[1]}: unquoted braces are a mapping in YAML."
    return Mistake(place, "", f"not valid YAML: {message}", hint)


class _Builder:
    def __init__(self, parsed: Parsed) -> None:
        self._source = parsed.source
        self._mistakes = parsed.mistakes
        self._constructor = yaml.SafeLoader("")
        self._count = 0

    def place(self, node: yaml.Node) -> Place:
        return Place(self._source.file, node.start_mark.line + 1, node.start_mark.column + 1)

    @staticmethod
    def is_null(node: yaml.Node) -> bool:
        return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"

    def build(self, node: yaml.Node, path: Path) -> Node:
        self._count += 1
        if self._count > MOST_VALUES:
            raise _TooManyValuesError
        if len(path) > DEEPEST:
            problem = NodeProblem(f"nested deeper than {DEEPEST} levels, or an alias that contains itself")
            return ScalarNode(self.place(node), None, problems=[problem])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            items = [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._tagged(node, Items(self.place(node), items), "seq", path)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _tagged(self, node: yaml.Node, built: Items | Fields, tag: str, path: Path) -> Node:
        if node.tag == _TAG + tag:
            return built
        return ScalarNode(built.place, None, problems=[_unknown_tag(node, path)])

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> ScalarNode:
        place = self.place(node)
        plain = node.style is None
        text = node.value if plain or node.tag in _TEXT_TAGS else None
        if node.tag in _TEXT_TAGS:
            return ScalarNode(place, node.value, text=text, plain=plain)
        if node.tag not in _TYPED_TAGS:
            return ScalarNode(place, None, problems=[_unknown_tag(node, path)])
        try:
            return ScalarNode(place, self._constructor.construct_object(node, deep=True), text=text, plain=plain)
        except (ValueError, yaml.YAMLError):
            kind = node.tag.removeprefix(_TAG)
            problem = NodeProblem(f"not a valid {kind}", "Quote it to make it a string.")
            return ScalarNode(place, node.value, text=text, plain=plain, problems=[problem])

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Node:
        place = self.place(node)
        variable = self._unquoted_variable(node)
        if variable:
            message = f"an unquoted {{{variable}}} is a mapping, not a variable"
            return ScalarNode(place, None, problems=[NodeProblem(message, f"Quote it: '{{{variable}}}'.")])
        merged: dict[Any, Field] = {}
        own: dict[Any, Field] = {}
        merges: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                if merges:
                    self._duplicate("<<", key_node, merges[0], path, "Merge several in one: <<: [*first, *second].")
                merges.append(key_node)
                merged = self._merge(value_node, path) | merged
                continue
            key = self._key(key_node, path)
            if key in own:
                self._duplicate(key, key_node, own[key].place, path, "Remove one of them.")
                continue
            child = self.build(value_node, (*path, key))
            if is_secret_name(key) and file_of(child) is None:
                start, end = value_node.start_mark, _end(value_node)
                self._source.secrets.append(((start.line, start.column), (end.line, end.column)))
            own[key] = Field(self.place(key_node), child)
        return self._tagged(
            node, Fields(place, own | {key: merged[key] for key in merged if key not in own}), "map", path
        )

    def _duplicate(self, key: Any, again: yaml.Node, first: Any, path: Path, hint: str) -> None:
        where = first if isinstance(first, Place) else self.place(first)
        message = f"duplicate key {key!r}, first given at line {where.line}, column {where.column}"
        self._mistakes.append(Mistake(self.place(again), dotted((*path, key)), message, hint))

    def _merge(self, node: yaml.Node, path: Path) -> dict[Any, Field]:
        """Return what ``<<`` merges. An earlier mapping wins over a later one."""
        entries: dict[Any, Field] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            built = self.build(part, (*path, "<<"))
            if isinstance(built, Fields):
                entries |= {key: entry for key, entry in built.entries.items() if key not in entries}
            else:
                message = "'<<' can only merge mappings"
                self._mistakes.append(Mistake(self.place(part), dotted((*path, "<<")), message))
        return entries

    def _key(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.ScalarNode):
            built = self._scalar(node, path)
            if not built.problems:
                return built.value
        message = "a key must be a simple value"
        self._mistakes.append(Mistake(self.place(node), dotted(path), message))
        return f"?{node.start_mark.index}"

    def _unquoted_variable(self, node: yaml.MappingNode) -> str | None:
        if not node.flow_style or len(node.value) != 1:
            return None
        key, value = node.value[0]
        if isinstance(key, yaml.ScalarNode) and self.is_null(value) and not value.value:
            return key.value if VARIABLE_NAME.fullmatch(key.value) else None
        return None


def _end(node: yaml.Node) -> yaml.Mark:
    """Return where a node ends.

    In PyYAML a block ends only where the next one begins.
    """
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node.end_mark


def _unknown_tag(node: yaml.Node, path: Path) -> NodeProblem:
    # It may be the beginning of an unquoted password.
    shown = "a YAML tag" if any(map(is_secret_name, path)) else f"the YAML tag {node.tag.replace(_TAG, '!!')}"
    return NodeProblem(f"{shown} is not allowed here", "Quote a value that begins with '!'.")
