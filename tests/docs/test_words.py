"""Pages use plain words, and the words of the glossary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Decisions are kept as they were written.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "storages").glob("*.md"))]
STILTED = re.compile(
    r"\btells? whether\b|\b(?:is|are|was) told\b|\bof (?:its|their|one's) own\b|\bthere is none\b|\bso many\b"
    r"|\b(?:no|some|any)body\b|\bgives? back\b|\bbecomes of\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_page_has_no_stilted_phrase(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [f"{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}" for hit in STILTED.finditer(text)]
    assert found == []


def test_the_glossary_explains_each_word_once() -> None:
    text = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    section = text.partition("## Glossary")[2].partition("\n## ")[0].partition("The verbs:")[0]
    words = [word.strip() for cell in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE) for word in cell.split(",")]
    assert len(words) > 25
    assert sorted(words) == sorted(set(words))
