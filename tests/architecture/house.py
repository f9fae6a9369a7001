"""Measure the structure of the package from its imports, and print it.

usage: python -m tests.architecture.house

A room is a package or a module directly in ``flowstore/``; the adapters in ``storages/`` are one room, whose own rooms
are measured beside it. An arrow goes from a room to each room that it imports at run time, in functions too. The floor
of a room is the number of arrows on the longest way down from it, plus one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOOR = ("store", "celery")
"""The one declared arrow up: ``FlowStore.attach``, ``detach`` and ``start`` import it when they are called."""

Arrows = Mapping[str, set[str]]


@dataclass(frozen=True)
class Module:
    """A module, by its dotted name when it is installed."""

    name: str
    path: Path
    is_package: bool
    lines: int
    imports: frozenset[str]


def modules(root: Path = ROOT) -> list[Module]:
    """Read all modules of the framework and of the adapters."""
    found = []
    for folder, package in ((root / "flowstore", "flowstore"), (root / "storages", "flowstore.storages")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join([package, *(parts[:-1] if is_package else parts)])
            source = path.read_text(encoding="utf-8")
            around = name if is_package else name.rpartition(".")[0]
            imports = frozenset(_imports(ast.parse(source), around))
            found.append(Module(name, path.relative_to(root), is_package, len(source.splitlines()), imports))
    return found


def _imports(node: ast.AST, around: str) -> Iterator[str]:
    """Yield what is imported at run time; ``around`` is the package that relative imports start from."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from _imports(other, around)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = around.split(".")[: len(around.split(".")) - child.level + 1] if child.level else []
            source = ".".join([*base, *([child.module] if child.module else [])])
            yield from (f"{source}.{alias.name}" for alias in child.names)
        else:
            yield from _imports(child, around)


def arrows(found: list[Module], within: str = "flowstore") -> dict[str, set[str]]:
    """Return which rooms of a package each of its rooms imports."""
    prefix = f"{within}."
    rooms: dict[str, set[str]] = {}
    for module in found:
        if module.name.startswith(prefix):
            room = module.name.removeprefix(prefix).partition(".")[0]
            to = {name.removeprefix(prefix).partition(".")[0] for name in module.imports if name.startswith(prefix)}
            rooms.setdefault(room, set()).update(to - {room})
    # `from flowstore import FlowStore` names no room.
    return {room: to & set(rooms) for room, to in rooms.items()}


def without_door(rooms: Arrows) -> dict[str, set[str]]:
    """Return the arrows without the declared one up."""
    return {room: to - {DOOR[1]} if room == DOOR[0] else set(to) for room, to in rooms.items()}


def circles(rooms: Arrows) -> list[list[str]]:
    """Return one circle of arrows for each room from which there is a way back to it."""

    def way(start: str, room: str, seen: tuple[str, ...]) -> list[str] | None:
        for to in sorted(rooms[room]):
            if to == start:
                return [*seen, to]
            if to not in seen and (found := way(start, to, (*seen, to))):
                return found
        return None

    return [found for room in sorted(rooms) if (found := way(room, room, (room,)))]


def floors(rooms: Arrows) -> dict[str, int]:
    """Return the floor of each room, from 1 up; there must be no circle."""
    known: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in known:
            known[room] = 1 + max(map(floor, rooms[room]), default=0)
        return known[room]

    for room in rooms:
        floor(room)
    return known


def folders(found: list[Module]) -> dict[Path, int]:
    """Return how many modules each folder has, without its ``__init__``."""
    count: dict[Path, int] = {}
    for module in found:
        count[module.path.parent] = count.get(module.path.parent, 0) + (not module.is_package)
    return count


def _print(title: str, rooms: Arrows) -> None:
    on = floors(rooms)
    print(f"{title}: {len(rooms)} rooms, {max(on.values())} floors, {sum(map(len, rooms.values()))} arrows")
    for number in sorted(set(on.values()), reverse=True):
        print(f"  {number:2}  " + ", ".join(sorted(room for room in on if on[room] == number)))


def main() -> None:
    """Print the measures."""
    found = modules()
    _print("flowstore", without_door(arrows(found)))
    _print("storages", arrows(found, "flowstore.storages"))
    largest = sorted(found, key=lambda module: -module.lines)[:3]
    print("longest modules: " + ", ".join(f"{module.path} ({module.lines} lines)" for module in largest))
    fullest = sorted(folders(found).items(), key=lambda item: -item[1])[:3]
    print("fullest folders: " + ", ".join(f"{folder} ({count} modules)" for folder, count in fullest))


if __name__ == "__main__":
    main()
