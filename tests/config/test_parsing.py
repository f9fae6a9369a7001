"""Where mistakes are said to be, through anchors, merges and duplicates."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowstore.config import Mistake
from flowstore.config.parsing import MOST_VALUES
from tests.config.kit import reading


def spots(mistakes: list[Mistake]) -> list[tuple[int | None, int | None, str]]:
    return [(each.place.line, each.place.column, each.path) for each in mistakes]


def test_all_mistakes_come_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = """\
version: 9
storages:
  - name: A
    on_store_error: never
    configuration: {path: '{UNSET}', path: x}
  - name: A
tasks:
  - name: t
    storage: B
    storage_readonly: 3
    output_schema: none.json
global: {defalt_storage: Z}
other: 1
"""
    assert [line for line, _, _ in spots(reading(tmp_path, text)[1])] == [1, 4, 5, 5, 6, 9, 10, 11, 12, 12, 13]


def test_an_anchor_is_where_its_text_is(tmp_path: Path) -> None:
    text = """\
storages:
  - name: A
    configuration: &shared
      host: '{UNSET}'
  - name: B
    configuration: *shared
"""
    mistakes = reading(tmp_path, text)[1]
    assert spots(mistakes) == [
        (4, 13, "storages.0.configuration.host"),
        (4, 13, "storages.1.configuration.host"),
    ]
    assert [each.message.split(":")[0] for each in mistakes] == ["storage 'A'", "storage 'B'"]


def test_a_duplicate_inside_an_anchor_is_reported_once(tmp_path: Path) -> None:
    text = "storages:\n  - &a {name: A, configuration: {x: 1, x: 2}}\n  - {<<: *a, name: B}\n"
    assert spots(reading(tmp_path, text)[1]) == [(2, 40, "storages.0.configuration.x")]


def test_merged_keys_give_way_to_own_and_earlier_ones(tmp_path: Path) -> None:
    text = """\
x-a: &a {host: a, port: 1}
x-b: &b {host: b, port: 2, db: 3}
storages:
  - name: A
    configuration: {<<: [*a, *b], port: 9}
  - name: B
    configuration: {<<: *b}
"""
    configuration, mistakes = reading(tmp_path, text)
    assert mistakes == []
    assert configuration.storages["A"].configuration == {"host": "a", "port": 9, "db": 3}
    assert configuration.storages["B"].configuration == {"host": "b", "port": 2, "db": 3}


def test_merges_are_checked(tmp_path: Path) -> None:
    text = "x-a: &a {name: A}\nstorages:\n  - <<: *a\n    <<: *a\n  - {name: B, <<: 5}\n"
    mistakes = reading(tmp_path, text)[1]
    assert spots(mistakes) == [(4, 5, "storages.0.<<"), (5, 19, "storages.1.<<")]
    assert mistakes[0].hint == "Merge several in one: <<: [*first, *second]."


def test_duplicates_are_found_at_every_level(tmp_path: Path) -> None:
    text = "version: 1\nstorages:\n  - name: A\n    name: B\n    configuration: {a: {b: {c: 1, 'c': 2}}}\nversion: 1\n"
    assert spots(reading(tmp_path, text)[1]) == [
        (4, 5, "storages.0.name"),
        (5, 35, "storages.0.configuration.a.b.c"),
        (6, 1, "version"),
    ]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("{DATA_DIR}", "Quote it: '{DATA_DIR}'."),
        ("[${DATA_DIR}]", "Quote the value that holds ${DATA_DIR}: unquoted braces are a mapping in YAML."),
        ("{DATA_DIR}/x", "Quote the value that holds {DATA_DIR}: unquoted braces are a mapping in YAML."),
    ],
)
def test_an_unquoted_variable_is_noticed(tmp_path: Path, value: str, hint: str) -> None:
    text = f"storages:\n  - name: A\n    configuration:\n      path: {value}\n"
    (mistake,) = reading(tmp_path, text, DATA_DIR="/data")[1]
    assert mistake.place.line == 4
    assert mistake.hint == hint


@pytest.mark.parametrize("value", ["{DATA_DIR: null}", "{data: }", "{A: 1}", "{DATA_DIR: 'x'}"])
def test_a_real_mapping_is_left_alone(tmp_path: Path, value: str) -> None:
    text = f"storages:\n  - name: A\n    configuration: {{path: {value}}}\n"
    assert reading(tmp_path, text)[1] == []


def test_aliases_cannot_multiply_without_end(tmp_path: Path) -> None:
    lines = ["x-a: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"]
    lines += [f"x-{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    (mistake,) = reading(tmp_path, "\n".join(lines))[1]
    assert mistake.message == f"its aliases expand to more than {MOST_VALUES:,} values"


def test_merges_cannot_multiply_without_end(tmp_path: Path) -> None:
    lines = ["x-0: &a0 {k: 1}"]
    lines += [f"x-{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, 10)]
    (mistake,) = reading(tmp_path, "\n".join(lines))[1]
    assert "its aliases expand to more than" in mistake.message


@pytest.mark.parametrize("text", ["storages: &a [*a]", "storages: &a {b: *a}", "x: &a {<<: *a}"])
def test_an_alias_that_contains_itself_is_refused(tmp_path: Path, text: str) -> None:
    assert any("contains itself" in str(each) or "merge mappings" in str(each) for each in reading(tmp_path, text)[1])


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    for depth in (150, 20_000):
        mistakes = reading(tmp_path, "storages: " + "[" * depth + "]" * depth)[1]
        assert any("nested deeper than 100 levels" in each.message for each in mistakes)
