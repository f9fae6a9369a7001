"""Values that win over the file: from a profile, variables and code.

``FLOWSTORE_STORAGES__HOT__HOST`` sets ``host`` of the storage ``hot``, and ``FLOWSTORE_GLOBAL__DEFAULT_STORAGE`` the
default storage. In code these are ``storages.hot.host`` and ``global.default_storage``. For a storage, a name that is
not a key of its entry is an argument of the adapter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowstore.config.document import Field, Fields, Items, Node, ScalarNode, from_data
from flowstore.config.mistakes import Mistake, Place, did_you_mean
from flowstore.config.shapes import StorageShape, known_keys

PREFIX: Final = "FLOWSTORE_"
NAMED_SECTIONS: Final = ("storages", "tasks", "flows")
_OWN_KEYS: Final = frozenset(known_keys(StorageShape)) - {"name"}


def name_plain_flows(tree: Fields) -> None:
    """Replace each flow that is only a name by an entry with that name."""
    flows = tree.get("flows")
    if isinstance(flows, Items):
        for index, item in enumerate(flows.items):
            if isinstance(item, ScalarNode) and isinstance(item.value, str):
                flows.items[index] = Fields(item.place, {"name": Field(item.place, item)})


def merge(base: Fields, over: Fields) -> None:
    """Merge a profile into the base file, in place.

    Entries are merged by name and mappings by key; everything else is replaced.
    """
    name_plain_flows(base)
    name_plain_flows(over)
    for key, entry in over.entries.items():
        mine = base.get(key)
        if key in NAMED_SECTIONS and isinstance(mine, Items) and isinstance(entry.node, Items):
            _merge_named(mine, entry.node)
        elif isinstance(mine, Fields) and isinstance(entry.node, Fields):
            _overlay(mine, entry.node)
        else:
            base.entries[key] = entry


def _merge_named(base: Items, over: Items) -> None:
    known = dict(named_sections(base))
    for item in over.items:
        mine = known.get(name_of(item))
        if mine is not None and isinstance(item, Fields):
            if _is_other_class(mine, item):
                mine.entries.pop("configuration", None)
            _overlay(mine, item)
        else:
            base.items.append(item)


def _overlay(base: Fields, over: Fields) -> None:
    for key, entry in over.entries.items():
        mine = base.get(key)
        if isinstance(mine, Fields) and isinstance(entry.node, Fields) and not _is_other_class(mine, entry.node):
            _overlay(mine, entry.node)
        else:
            base.entries[key] = entry


def _is_other_class(base: Fields, over: Fields) -> bool:
    """Return whether ``over`` names another class than ``base``.

    Then it can't take the arguments of the base.
    """
    return any(_value(over, key) not in (None, _value(base, key)) for key in ("classname", "import"))


def _value(fields: Fields, key: str) -> Any:
    node = fields.get(key)
    return node.value if isinstance(node, ScalarNode) else None


def name_of(node: Node) -> Any:
    """Return the ``name`` of an entry, or None."""
    name = _value(node, "name") if isinstance(node, Fields) else None
    return name if isinstance(name, str) else None


def named_sections(section: Node | None) -> Iterator[tuple[str, Fields]]:
    """Yield the entries of a section that have a name, by name."""
    for item in section.items if isinstance(section, Items) else ():
        name = name_of(item)
        if name is not None and isinstance(item, Fields):
            yield name, item


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How one kind of override writes names."""

    separator: str
    fold: Callable[[str], str]
    sections: tuple[str, ...]


_ENVIRONMENT = _Spelling("__", lambda name: re.sub(r"\W", "_", name).upper(), ("storages", "global"))
_DOTTED = _Spelling(".", str.lower, (*NAMED_SECTIONS, "global"))


def apply_environment(tree: Fields, environ: Mapping[str, str]) -> list[Mistake]:
    """Apply ``FLOWSTORE_<section>__...`` variables; return their mistakes."""
    mistakes: list[Mistake] = []
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and "__" in variable:
            rest = variable.removeprefix(PREFIX)
            mistakes += _apply(tree, rest, from_data(environ[variable], Place(variable)), _ENVIRONMENT)
    return mistakes


def apply_overrides(tree: Fields, overrides: Mapping[str, Any]) -> list[Mistake]:
    """Apply overrides by dotted key; return their mistakes."""
    mistakes: list[Mistake] = []
    for key, value in overrides.items():
        mistakes += _apply(tree, key, from_data(value, Place(f"override {key}")), _DOTTED)
    return mistakes


def _apply(tree: Fields, target: str, node: Node, spelling: _Spelling) -> list[Mistake]:
    section, _, rest = target.partition(spelling.separator)
    section = section.lower()
    if section not in spelling.sections:
        message = f"unknown section {section!r}"
        return [Mistake(node.place, "", message, did_you_mean(section, spelling.sections))]
    if section == "global":
        keys = rest.split(spelling.separator)
        return _set(tree, ["global", *keys], node)
    entries = list(named_sections(tree.get(section)))
    entry, rest = _find(entries, rest, spelling)
    if entry is None:
        return [Mistake(node.place, section, *_not_found(entries, section, rest, spelling))]
    keys = rest.split(spelling.separator)
    if section == "storages" and keys[0].lower() not in _OWN_KEYS:
        keys.insert(0, "configuration")
    return _set(entry, keys, node)


def _find(entries: list[tuple[str, Fields]], rest: str, spelling: _Spelling) -> tuple[Fields | None, str]:
    """Return the entry that an override names, and the rest of the override.

    Exact names are tried first, and longer names before shorter ones.
    """
    cuts = [found.start() for found in re.finditer(f"(?={re.escape(spelling.separator)})", rest)]
    for fold in (str, spelling.fold):
        for cut in reversed(cuts):
            keys = rest[cut + len(spelling.separator) :]
            found = [entry for name, entry in entries if fold(name) == fold(rest[:cut])]
            if len(found) == 1 and keys:
                return found[0], keys
    return None, rest


def _not_found(
    entries: list[tuple[str, Fields]], section: str, rest: str, spelling: _Spelling
) -> tuple[str, str | None]:
    what = section.removesuffix("s")
    name = rest.partition(spelling.separator)[0]
    same = [each for each, _ in entries if spelling.fold(each) == spelling.fold(name)]
    if len(same) > 1:
        return f"{name!r} could be {' or '.join(map(repr, same))}", "Rename one of them."
    if same:
        return f"the override names the {what} {same[0]!r}, but none of its keys", None
    return f"unknown {what} {name!r}", did_you_mean(name, (each for each, _ in entries))


def _set(fields: Fields, keys: list[str], node: Node) -> list[Mistake]:
    *above, last = keys
    for key in above:
        key = _spelled(fields, key)
        child = fields.get(key)
        if isinstance(child, Items):
            return [Mistake(node.place, key, f"{key!r} is a list, whose items can't be overridden")]
        if not isinstance(child, Fields):
            child = Fields(node.place, {})
            fields.entries[key] = Field(node.place, child)
        fields = child
    fields.entries[_spelled(fields, last)] = Field(node.place, node)
    return []


def _spelled(fields: Fields, key: str) -> str:
    """Return a key as the mapping spells it.

    A new one in upper case is changed to lower case.
    """
    if key in fields.entries:
        return key
    by_lower = {str(each).lower(): each for each in fields.entries if isinstance(each, str)}
    return by_lower.get(key.lower(), key.lower() if key.isupper() else key)
