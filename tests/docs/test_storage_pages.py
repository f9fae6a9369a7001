"""Each adapter has a page, and the tables there are made from the adapters, not typed."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flowstore.storages
from flowstore.storage import Guarantees, QueriesFields, RecordStorage
from flowstore.storage.capabilities import CAPABILITIES, capabilities_of
from flowstore.storages import MemoryStorage

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLES = ("storage-guarantees", "storage-capabilities", "storage-arguments")
DIRECTIVE = re.compile(r"^```\{(storage-[a-z]+)\}((?: \w+)*)$", re.MULTILINE)

adapters = pytest.mark.parametrize("name", flowstore.storages.__all__)


def page_of(name: str) -> Path:
    room = getattr(flowstore.storages, name).__module__.removeprefix("flowstore.storages.").partition(".")[0]
    return DOCS / "storages" / f"{room}.md"


@pytest.fixture(scope="module")
def tables() -> Any:
    pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install 'flowstore[docs]'")
    spec = importlib.util.spec_from_file_location("storage_tables", DOCS / "storage_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@adapters
def test_each_adapter_has_its_page_with_all_tables(name: str) -> None:
    text = page_of(name).read_text(encoding="utf-8")
    assert text.startswith(f"# `{name}`: ")
    assert sorted(DIRECTIVE.findall(text)) == sorted((table, f" {name}") for table in TABLES)


def test_each_page_is_an_adapters() -> None:
    assert {path.name for path in (DOCS / "storages").glob("*.md")} == {
        page_of(name).name for name in flowstore.storages.__all__
    }


def test_no_generated_table_is_typed() -> None:
    """Configuration keys and capabilities are listed by the code alone."""
    generated = {capability.__name__ for capability in CAPABILITIES}
    for name in flowstore.storages.__all__:
        generated |= set(inspect.signature(getattr(flowstore.storages, name)).parameters)
    for page in [DOCS / "storages.md", *(DOCS / "storages").glob("*.md")]:
        typed = re.findall(r"^\| *`?(\w+)`? *\|", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert generated.isdisjoint(typed), f"{page.name} has a table that is not generated"


def test_the_overview_names_every_page() -> None:
    text = (DOCS / "storages.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^storages/(\w+)$", text, re.MULTILINE)) == {
        page_of(name).stem for name in flowstore.storages.__all__
    }


@adapters
def test_tables_say_what_the_adapter_says(tables: Any, name: str) -> None:
    adapter = getattr(flowstore.storages, name)
    promised = "\n".join(tables.guarantees([name]))
    assert adapter.guarantees
    assert all(one.power_fails in promised and one.database in promised for one in adapter.guarantees)
    head, _, *rows = tables.capabilities([name])
    assert name in head
    marked = {capability: row.endswith("| yes |") for capability, row in zip(CAPABILITIES, rows, strict=True)}
    assert [capability for capability in CAPABILITIES if marked[capability]] == list(capabilities_of(adapter))
    assert tables.arguments(name)


def test_a_change_of_an_adapter_is_a_change_of_the_tables(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed(RecordStorage):
        """Keep nothing.

        Args:
            one: the first
                of them.
            two, three: the others.
        """

        guarantees = (
            Guarantees(
                database="changed",
                shared_by="threads",
                process_ends="a|b",
                server_crashes="",
                power_fails="",
                one_winner="",
                clock="",
                largest_record="",
            ),
        )

        def __init__(self, one: str, two: int = 2, three: bool = False) -> None:
            pass

    monkeypatch.setattr(flowstore.storages, "MemoryStorage", Changed)
    assert tables.arguments("MemoryStorage")[2:] == [
        "| `one` | the first of them | required |",
        "| `two` | the others | `2` |",
        "| `three` | the others | `false` |",
    ]
    assert "| kept when the process ends or is killed | a\\|b |" in tables.guarantees(["MemoryStorage"])
    monkeypatch.setattr(Changed, "__doc__", "Keep nothing.\n\n    Args:\n        one: the first.\n")
    with pytest.raises(ValueError, match=r"takes .*three.*, and describes .'one'"):
        tables.arguments("MemoryStorage")


def test_the_pages_are_built_from_the_code(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install 'flowstore[docs]'")
    pages = ["storages.md", "storages/memory.md"]
    for page in pages:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        text = (DOCS / page).read_text(encoding="utf-8")
        (tmp_path / page).write_text(re.sub(r"```\{toctree\}.*?```", "", text, flags=re.DOTALL), encoding="utf-8")
    settings = ["import sys", f"sys.path.insert(0, {str(DOCS)!r})", 'root_doc = "storages"']
    settings.append('extensions = ["myst_parser", "storage_tables"]')
    (tmp_path / "conf.py").write_text("\n".join(settings), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "text", str(tmp_path), str(tmp_path / "built")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = (tmp_path / "built" / "storages" / "memory.txt").read_text(encoding="utf-8")
    assert MemoryStorage.guarantees[0].process_ends in built
    assert issubclass(MemoryStorage, QueriesFields) == bool(re.search(r'"QueriesFields".*\| yes', built))
    assert "storage-guarantees" not in built
