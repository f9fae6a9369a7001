"""From a file or mapping to a configuration, checked but for adapters."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from flowstore.config.checking import check
from flowstore.config.document import (
    Document,
    Fields,
    Path,
    ScalarNode,
    TooDeepError,
    children,
    dotted,
    from_data,
    scalars,
)
from flowstore.config.mistakes import Mistake, Place
from flowstore.config.model import Configuration
from flowstore.config.overrides import (
    NAMED_SECTIONS,
    apply_environment,
    apply_overrides,
    merge,
    name_of,
    name_plain_flows,
)
from flowstore.config.parsing import parse, resolve_plain
from flowstore.config.secrets import known_secrets
from flowstore.config.variables import expand

CONFIG_VARIABLE: Final = "FLOWSTORE_CONFIG"
PROFILE_VARIABLE: Final = "FLOWSTORE_PROFILE"
MAPPING: Final = "<mapping>"
EXTENSION: Final = "x-"
"""The prefix of top-level keys that only hold YAML anchors."""

_PROFILE_NAME: Final = re.compile(r"\w[\w.-]*")

ConfigurationSource = str | os.PathLike[str] | Mapping[str, Any]


def read(
    source: ConfigurationSource | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Configuration, list[Mistake]]:
    """Read a configuration and check everything but its adapters.

    Args:
        source: the path of a YAML file, a mapping of the same form, or None for the file in ``FLOWSTORE_CONFIG``.
        environ: the environment variables; those of the process by default.
        overrides: values by dotted key (``storages.HOT.host``). They win over environment, profile and file.

    Returns:
        The configuration, without the entries that are wrong, and all mistakes.
    """
    document = read_document(source, environ=environ, overrides=overrides)
    return document.configuration, document.mistakes()


def read_document(
    source: ConfigurationSource | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Document:
    """Read a configuration as ``read`` does; return the whole document."""
    environ = os.environ if environ is None else environ
    if source is None:
        source = environ.get(CONFIG_VARIABLE) or None
    if source is None:
        document = _empty("")
        document.add(
            Mistake(
                Place(),
                "",
                "no configuration was given",
                f"Give the path of a YAML file or a mapping, or set the variable {CONFIG_VARIABLE}.",
            )
        )
        return document
    try:
        document = _of_mapping(source, environ) if isinstance(source, Mapping) else _of_files(FilePath(source), environ)
        name_plain_flows(document.tree)
        document.add(*apply_environment(document.tree, environ), *apply_overrides(document.tree, overrides or {}))
    except TooDeepError as exc:
        document = _empty(MAPPING)
        document.add(Mistake(exc.place, dotted(exc.path[:3]), "nested too deeply, or it contains itself"))
        return document
    for path, scalar in scalars(document.tree):
        for problem in scalar.problems:
            owner = _owner(document, path)
            document.add(Mistake(scalar.place, dotted(path), owner + problem.message, problem.hint))
    document.secrets.update(known_secrets(document.tree))
    check(document)
    return document


def _empty(name: str) -> Document:
    return Document(name=name, base=FilePath(), tree=Fields(Place(), {}))


def _of_mapping(source: Mapping[str, Any], environ: Mapping[str, str]) -> Document:
    tree = from_data(source, Place())
    document = _empty(MAPPING)
    assert isinstance(tree, Fields)
    document.tree = tree
    _prepare(document, tree, environ)
    return document


def _of_files(path: FilePath, environ: Mapping[str, str]) -> Document:
    document = Document(name=str(path), base=path.parent, tree=Fields(Place(str(path)), {}))
    tree = _parse_file(document, path, environ)
    if tree is not None:
        document.tree = tree
    profile = environ.get(PROFILE_VARIABLE)
    if not profile:
        return document
    if not _PROFILE_NAME.fullmatch(profile):
        document.add(Mistake(Place(PROFILE_VARIABLE), "", f"{profile!r} is not a valid name of a profile"))
        return document
    over = path.with_name(f"{path.stem}.{profile}{path.suffix}")
    if not over.exists():
        message = f"the profile {profile!r} has no file {over}"
        document.add(Mistake(Place(PROFILE_VARIABLE), "", message, "Create it, or unset the variable."))
        return document
    tree = _parse_file(document, over, environ)
    if tree is not None:
        merge(document.tree, tree)
    return document


def _parse_file(document: Document, path: FilePath, environ: Mapping[str, str]) -> Fields | None:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        whole = "" if path.is_absolute() else f" {path.absolute()}"
        document.add(Mistake(Place(str(path)), "", f"can't read the file{whole}: {exc.strerror or exc}"))
        return None
    except UnicodeDecodeError as exc:
        document.add(Mistake(Place(str(path)), "", f"the file is not UTF-8 text: byte {exc.start} can't be read"))
        return None
    parsed = parse(text, str(path))
    document.sources[str(path)] = parsed.source
    document.add(*parsed.mistakes)
    if parsed.tree is not None:
        _prepare(document, parsed.tree, environ)
    return parsed.tree


def _prepare(document: Document, tree: Fields, environ: Mapping[str, str]) -> None:
    """Expand the variables of a tree, and report entries with the same name."""
    for key in [key for key in tree.entries if isinstance(key, str) and key.startswith(EXTENSION)]:
        del tree.entries[key]
    for _, scalar in scalars(tree):
        _expand(scalar, environ)
    for section in NAMED_SECTIONS:
        first: dict[str, Place] = {}
        for index, item in children(tree.entries[section].node) if section in tree.entries else ():
            name = name_of(item)
            if name is None:
                continue
            if name in first:
                where = f", first given at line {first[name].line}" if first[name].line else ""
                place = item.entries["name"].node.place if isinstance(item, Fields) else item.place
                message = f"the {section.removesuffix('s')} {name!r} is declared twice{where}"
                document.add(Mistake(place, dotted((section, index, "name")), message, "Rename one of them."))
            else:
                first[name] = item.entries["name"].node.place if isinstance(item, Fields) else item.place


def _expand(scalar: ScalarNode, environ: Mapping[str, str]) -> None:
    if not isinstance(scalar.value, str) or scalar.problems:
        return
    expansion = expand(scalar.value, environ)
    scalar.value = expansion.text
    scalar.problems = expansion.problems
    if scalar.plain and expansion.only_variables and not expansion.problems:
        scalar.expanded = expansion.text
        scalar.value = resolve_plain(expansion.text)


def _owner(document: Document, path: Path) -> str:
    """Return the name of the entry at a path, to begin a message with.

    Several entries may share a line through an anchor.
    """
    entry = document.node(path[:2])
    name = name_of(entry) if entry is not None else None
    return f"{path[0].removesuffix('s')} {name!r}: " if name and path[0] in NAMED_SECTIONS else ""
