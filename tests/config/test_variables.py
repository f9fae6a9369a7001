"""Variables in values: the grammar, and that nothing is expanded twice."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.config import read
from flowstore.config.variables import expand

ENVIRON = {"A": "1", "LONG_NAME_2": "two", "lower": "3", "EMPTY": "", "_": "u", "TRICKY": "{A}${A}$${{"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{A}", "1"),
        ("x{A}y{LONG_NAME_2}", "x1ytwo"),
        ("{_}", "u"),
        ("{lower}", "{lower}"),
        ("{a b}", "{a b}"),
        ("{1A}", "{1A}"),
        ("{}", "{}"),
        ("{", "{"),
        ("}", "}"),
        ("{A", "{A"),
        ("{ A }", "{ A }"),
        ('{"a": 1}', '{"a": 1}'),
        ("{{A}}", "{A}"),
        ("{{{A}}}", "{1}"),
        ("{{", "{"),
        ("}}", "}"),
        ("${A}", "1"),
        ("${lower}", "3"),
        ("$A", "$A"),
        ("$", "$"),
        ("a$", "a$"),
        ("$$", "$"),
        ("$$$$", "$$"),
        ("$${A}", "${A}"),
        ("$$${A}", "$1"),
        ("$${{A}}", "${A}"),
        ("${A:-x}", "1"),
        ("${NO:-x y/z:8}", "x y/z:8"),
        ("${NO:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("{EMPTY}", ""),
        ("${A:?needed}", "1"),
        ("{TRICKY}", "{A}${A}$${{"),
        ("${NO:-$A}", "$A"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    result = expand(text, ENVIRON)
    assert (result.text, result.problems) == (expanded, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{NO}", "the variable NO is not set"),
        ("${NO}", "the variable NO is not set"),
        ("${NO:?set it to the host}", "the variable NO is not set: set it to the host"),
        ("${EMPTY:?}", "the variable EMPTY is not set: it is required"),
        ("${A", "'${' does not begin a variable here"),
        ("${}", "'${' does not begin a variable here"),
        ("${A-x}", "'${' does not begin a variable here"),
        ("${1}", "'${' does not begin a variable here"),
        ("${NO:-{A}}", "'${' does not begin a variable here"),
    ],
)
def test_what_cannot_be_expanded(text: str, message: str) -> None:
    assert expand(text, ENVIRON).problems[0].message == message


def test_a_misspelt_variable_is_guessed() -> None:
    (problem,) = expand("{DATADIR}", {"DATA_DIR": "x"}).problems
    assert problem.hint == "Did you mean 'DATA_DIR'?"


@given(st.text())
def test_what_a_variable_holds_is_never_looked_at(value: str) -> None:
    environ = {"VAR": value, "A": "expanded"}
    for text in ("{VAR}", "${VAR}", "${VAR:-other}", "${VAR:?}"):
        if value or ":" not in text:
            assert expand(text, environ).text == value
            assert expand(f"<{text}>", environ).text == f"<{value}>"


@given(st.lists(st.sampled_from(["{A}", "${A}", "{", "}", "$", "A", "{{", "}}", "$$"]), max_size=6).map("".join))
def test_values_made_of_syntax_are_never_looked_at(value: str) -> None:
    configuration, mistakes = read(
        {"storages": [{"name": "S", "configuration": {"x": "{VAR}", "y": ["<${VAR}>"]}}]},
        environ={"VAR": value, "A": "!"},
    )
    assert mistakes == []
    assert configuration.storages["S"].configuration == {"x": value, "y": [f"<{value}>"]}


@given(st.text())
def test_any_text_can_be_written_with_escapes(text: str) -> None:
    escaped = text.replace("$", "$$").replace("{", "{{").replace("}", "}}")
    assert expand(escaped, {}).text == text


@given(st.text(alphabet="{}$A:-?x_ ", max_size=12))
def test_expansion_never_fails_and_reports_or_replaces(text: str) -> None:
    result = expand(text, {})
    assert result.problems or "${A}" not in text.replace("$$", "")


def configured(yaml: str, tmp_path: Any, **environ: str) -> Any:
    file = tmp_path / "f.yaml"
    file.write_text(f"storages:\n  - name: S\n    configuration:\n      x: {yaml}\n")
    configuration, mistakes = read(file, environ=environ)
    assert mistakes == []
    return configuration.storages["S"].configuration["x"]


@pytest.mark.parametrize(
    ("yaml", "value", "expected"),
    [
        ("${V}", "6379", 6379),
        ("'${V}'", "6379", "6379"),
        ("'{V}'", "6379", "6379"),
        ("${V}", "1.5", 1.5),
        ("${V}", "false", False),
        ("${V}", "null", None),
        ("${V}", "2024-01-02", datetime.date(2024, 1, 2)),
        ("${V}", "2024-99-99", "2024-99-99"),
        ("${V}", "text", "text"),
        ("${V}", "a: b", "a: b"),
        ("${V}", "[1, 2]", "[1, 2]"),
        ("${V}", "!!python/none x", "!!python/none x"),
        ("${V}", "<<", "<<"),
        ("${V}", "*alias", "*alias"),
        ("${V}0", "1", "10"),
        ("\n      - ${V}\n      - '${V}'", "1", [1, "1"]),
        ("{a: {b: '${V}'}}", "1", {"a": {"b": "1"}}),
    ],
)
def test_an_unquoted_variable_follows_the_rules_of_yaml(tmp_path: Any, yaml: str, value: str, expected: Any) -> None:
    assert configured(yaml, tmp_path, V=value) == expected


def test_keys_are_not_expanded(tmp_path: Any) -> None:
    assert configured("{'{V}': 1}", tmp_path, V="k") == {"{V}": 1}


def test_an_unset_variable_names_storage_key_and_line(tmp_path: Any) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("storages:\n  - name: Hot\n    configuration:\n      deep: [{host: '{NOPE}'}]\n")
    _, (mistake,) = read(file, environ={})
    assert str(mistake).splitlines()[0] == (
        f"{file}:4:21: storages.0.configuration.deep.0.host: storage 'Hot': the variable NOPE is not set. "
        "Set it, or give a default: ${NOPE:-...}."
    )
