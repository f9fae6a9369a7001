"""The structure of the code: few rooms, one direction, short modules; and a checker that notices a turned arrow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.architecture import house

FOUND = house.modules()


def test_the_rooms_can_be_surveyed() -> None:
    rooms = house.without_door(house.arrows(FOUND))
    assert len(rooms) <= 18
    assert sum(map(len, rooms.values())) <= 65
    assert house.circles(rooms) == []
    assert max(house.floors(rooms).values()) <= 10


def test_the_door_is_the_only_arrow_up() -> None:
    ways = house.circles(house.arrows(FOUND))
    assert ways
    assert all(house.DOOR in pairwise(way) for way in ways)


def test_the_loose_modules_are_few() -> None:
    loose = [module for module in FOUND if module.path.parent == Path("flowstore") and not module.is_package]
    assert len([module for module in loose if not module.name.endswith("__main__")]) <= 5


def test_no_adapter_imports_another() -> None:
    assert {to for of in house.arrows(FOUND, "flowstore.storages").values() for to in of} <= {"shared"}


def test_no_folder_is_crowded_and_no_module_is_long() -> None:
    assert [(module.path, module.lines) for module in FOUND if module.lines > 300] == []
    crowded = {folder: count for folder, count in house.folders(FOUND).items() if count > 25}
    assert crowded == {}
    tests = {folder: len([*folder.glob("*.py")]) for folder in (house.ROOT / "tests").rglob("*") if folder.is_dir()}
    assert {folder: count for folder, count in tests.items() if count > 25} == {}
    adapters = {folder: count for folder, count in house.folders(FOUND).items() if folder.parts[0] == "storages"}
    assert {folder: count for folder, count in adapters.items() if count > 12} == {}


def plant(root: Path, **sources: str) -> list[house.Module]:
    for name, source in sources.items():
        path = root / "flowstore" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return house.modules(root)


def test_circles_and_arrows_in_functions_are_seen(tmp_path: Path) -> None:
    below = "def later():\n    from .. import above\n"
    rooms = house.arrows(plant(tmp_path, above="import flowstore.below.inside\n", below__inside=below))
    assert rooms == {"above": {"below"}, "below": {"above"}}
    assert house.circles(rooms) == [["above", "below", "above"], ["below", "above", "below"]]


def test_what_only_a_type_checker_imports_is_no_arrow(tmp_path: Path) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flowstore import below\n"
    assert house.arrows(plant(tmp_path, above=source, below="")) == {"above": set(), "below": set()}


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("record/record.py", "from flowstore.store import operations", "Imports only point down"),
        ("storage/claims.py", "import flowstore.config", "Imports only point down"),
        ("storages/sql/storage.py", "import flowstore.encoding.codec", "Adapters stand on"),
        ("cli/ls.py", "import celery", "import celery"),
        ("store/store.py", "from flowstore.storages import sql", "Adapters are imported by the name"),
    ],
)
def test_the_checker_notices_a_turned_arrow(tmp_path: Path, module: str, statement: str, contract: str) -> None:
    checker = Path(sys.executable).with_name("lint-imports")
    if not checker.exists():
        pytest.skip("import-linter is not installed: pip install 'flowstore[dev]'")
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(house.ROOT / "flowstore", tmp_path / "flowstore", ignore=hidden)
    shutil.copytree(house.ROOT / "storages", tmp_path / "flowstore/storages", ignore=hidden)
    turned = tmp_path / "flowstore" / module
    turned.write_text(turned.read_text(encoding="utf-8") + f"\n\ndef turned() -> None:\n    {statement}\n", "utf-8")
    command = [str(checker), "--config", str(house.ROOT / "pyproject.toml"), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    [broken] = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")] or [done.stdout + done.stderr]
    assert contract in broken
