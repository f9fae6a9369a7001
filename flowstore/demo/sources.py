"""Choose the files that the demo surveys."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

_PACKAGES = ("asyncio", "collections", "concurrent", "email", "http", "importlib", "json", "logging", "xml", "unittest")
_KNOWN_BAD = ("test/**/badsyntax_3131.py", "test/**/badsyntax_pep3120.py", "test/**/bad_coding.py")
_SKIPPED = frozenset({"__pycache__", "site-packages", "node_modules", "venv"})

BROKEN = '''"""A module that is not finished."""


def price(amount, rate:
    return amount * rate
'''


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file and its module name."""

    module: str
    path: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The files to survey: those that can be parsed, and those that can't."""

    title: str
    sound: list[SourceFile]
    broken: list[SourceFile]


def choose(folder: Path | None, limit: int, broken_file: Path) -> Selection:
    """Choose files, and separate those that are not valid Python.

    A chord's body never runs if a header task fails, so the broken files must not be part of the header.

    Args:
        folder: the folder with modules; ``None`` for the standard library.
        limit: the maximum number of files.
        broken_file: a path at which a broken file is written.

    Raises:
        ValueError: the folder has no valid Python file.
    """
    sound: list[SourceFile] = []
    broken = [SourceFile("unfinished", str(broken_file))]
    stdlib = Path(sysconfig.get_path("stdlib"))
    root = folder or stdlib
    for path in islice(_below(root) if folder else _of_stdlib(stdlib), limit):
        source = SourceFile(_module(path, root), str(path))
        (sound if is_python(path) else broken).append(source)
    if not sound:
        raise ValueError(f"there are no Python files in {root}; choose another folder with --path")
    broken_file.write_text(BROKEN, encoding="utf-8")
    if folder is None:
        bad = [path for pattern in _KNOWN_BAD for path in stdlib.glob(pattern) if not is_python(path)]
        broken += [SourceFile(_module(path, stdlib), str(path)) for path in bad]
        return Selection("the standard library", sound, broken)
    return Selection(str(folder), sound, broken)


def parse(path: Path) -> ast.Module:
    """Parse a file.

    Raises:
        SyntaxError, ValueError: the file is not valid Python.
    """
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(path.read_bytes(), str(path))


def is_python(path: Path) -> bool:
    """Return whether a file can be parsed."""
    try:
        parse(path)
    except (SyntaxError, ValueError):
        return False
    return True


def _of_stdlib(stdlib: Path) -> Iterator[Path]:
    yield from sorted(stdlib.glob("*.py"))
    for package in _PACKAGES:
        yield from _below(stdlib / package)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if _SKIPPED.isdisjoint(path.relative_to(folder).parts) and path.is_file():
            yield path


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
