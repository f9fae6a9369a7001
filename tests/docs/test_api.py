"""docs/api.md lists the public interface; other pages draw the tree of errors, list extras and name files."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import flowstore
import flowstore.storages
from flowstore import errors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
API = (DOCS / "api.md").read_text(encoding="utf-8")
DIRECTIVE = re.compile(r"^\.\. auto\w+:: (\S+)((?:\n   :.*)*)", re.MULTILINE)
MEMBERS = re.compile(r":(?:private-|special-)?members: *(.*)")
LISTED: dict[str, str] = dict(DIRECTIVE.findall(API))


def found(dotted: str) -> Any:
    """Import what a dotted name stands for; raise where there is nothing."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            value = getattr(value, name)
        return value
    raise AssertionError(f"there is no {dotted}")


def members(name: str) -> list[str]:
    return [member.strip() for names in MEMBERS.findall(LISTED[name]) for member in names.split(",") if member.strip()]


@pytest.mark.parametrize("name", LISTED)
def test_each_listed_name_exists(name: str) -> None:
    value = found(name)
    fields = {field for base in getattr(value, "__mro__", ()) for field in vars(base).get("__annotations__", {})}
    assert [member for member in members(name) if not hasattr(value, member) and member not in fields] == []


def test_each_public_name_is_listed() -> None:
    assert {f"flowstore.{name}" for name in flowstore.__all__} - LISTED.keys() == set()
    assert {f"flowstore.storages.{name}" for name in flowstore.storages.__all__} - LISTED.keys() == set()


def test_each_public_method_is_listed() -> None:
    for name in ("FlowStore", "FlowRun", "Documents"):
        value = getattr(flowstore, name)
        public = {
            key
            for base in value.__mro__
            if base.__module__.startswith("flowstore.")
            for key, member in vars(base).items()
            if not key.startswith("_") and (callable(member) or isinstance(member, property | staticmethod))
        }
        assert public - set(members(f"flowstore.{name}")) == set(), name


def test_each_logger_that_a_page_names_is_there() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    named = set(re.findall(r"logger\s+`(flowstore[\w.]*)`", pages)) | set(
        re.findall(r'getLogger\("(flowstore\.[\w.]+)"', pages)
    )
    assert len(named) > 2
    assert [name for name in named if not hasattr(found(name), "log")] == []


def test_the_drawn_tree_of_errors_is_that_of_the_code() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    drawing = re.search(r"```text\n(FlowstoreError\n.*?)```", text, re.DOTALL)
    assert drawing is not None
    drawn = {}
    parents: list[str] = []
    for line in drawing[1].splitlines():
        drawn_name = re.search(r"\w+Error", line)
        assert drawn_name is not None
        depth = drawn_name.start() // 4
        also = re.search(r"\(also an? (\w+)\)", line)
        parents[depth:] = [drawn_name[0]]
        drawn[drawn_name[0]] = (parents[depth - 1] if depth else "Exception", also[1] if also else None)
    real = {}
    for name in flowstore.__all__:
        value = getattr(flowstore, name)
        if inspect.isclass(value) and issubclass(value, errors.FlowstoreError):
            ours, *others = value.__bases__
            real[name] = (ours.__name__, others[0].__name__ if others else None)
    assert drawn == real


def test_the_table_of_extras_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].keys() - {"test", "docs", "dev"}
    page = (DOCS / "install.md").read_text(encoding="utf-8")
    table = page.partition("## Extras")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == extras


@pytest.mark.parametrize(
    "page", ["development.md", *(f"adr/{path.name}" for path in sorted((DOCS / "adr").glob("*.md")))]
)
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:flowstore|storages|tests|docs|benchmarks|yaml_examples)/[\w./-]*)`", text)
    built = "docs/_build/"
    assert [path for path in named if not path.startswith(built) and not (ROOT / path).exists()] == []


def test_the_map_has_each_room_once() -> None:
    text = (DOCS / "development.md").read_text(encoding="utf-8")
    rooms = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("flowstore/*/__init__.py")}
    rooms |= {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("storages/*/__init__.py")}
    loose = {str(path.relative_to(ROOT)) for path in ROOT.glob("flowstore/[a-z]*.py")}
    section = text.partition("## The map")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `((?:flowstore|storages)/[\w./]*)` \|", section, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) >= rooms | loose
