"""Which servers a run of the tests met and which it had to do without, for the listing at its end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

import pytest

Nature = Literal["real", "independent", "emulated"]


@dataclass(frozen=True, order=True)
class Found:
    """A server.

    Attributes:
        name: what it is.
        nature: the database itself; another maker's implementation of its protocol; or an emulation, which proves
            nothing about races or durability.
        version: its own words.
        how: how it was found: by which address, program or package.
    """

    name: str
    nature: Nature
    version: str
    how: str

    def __str__(self) -> str:
        return f"{self.nature}: {self.name} {self.version}, {self.how}"


SQLITE = Found("SQLite", "real", sqlite3.sqlite_version, "the library of this Python")

_met: set[tuple[str, Found]] = set()
_missing: set[tuple[str, str]] = set()


def note(adapter: str, found: Found) -> None:
    """Take note that an adapter meets a server."""
    _met.add((adapter, found))


def skip(adapter: str, why: str) -> NoReturn:
    """Skip the test that needs a server which is not there; the listing says so."""
    _missing.add((adapter, why))
    pytest.skip(why)


def found(adapter: str) -> list[Found]:
    """Return the servers that an adapter has met."""
    return sorted(server for met, server in _met if met == adapter)


def told() -> list[list[list[str]]]:
    """Return all notes, so that another process can take them over."""
    met = [[adapter, *map(str, (one.name, one.nature, one.version, one.how))] for adapter, one in _met]
    return [met, [list(one) for one in _missing]]


def take_over(notes: list[list[list[str]]]) -> None:
    """Take over the notes of another process that ran a part of the tests."""
    met, missing = notes
    for adapter, name, nature, version, how in met:
        _met.add((adapter, Found(name, nature, version, how)))  # type: ignore[arg-type]
    _missing.update((adapter, why) for adapter, why in missing)


def lines() -> Iterator[str]:
    """Yield the listing, line by line; nothing if no test asked for a server."""
    if not _met and not _missing:
        return
    for adapter, found in sorted(_met):
        yield f"{adapter}: {found}"
    for adapter, why in sorted(_missing):
        yield f"{adapter}: NOT TESTED: {why}"
