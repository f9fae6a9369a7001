"""Mistakes are shown with their line and a caret."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from flowstore.config import Mistake, Place, read
from flowstore.errors import ConfigurationError
from tests.config.kit import reading


def test_a_mistake_is_shown_with_its_line_and_a_caret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flowstore.yaml").write_text("storages:\n  - name: Results\n    clasname: SqlStorage\n")
    _, (mistake,) = read("flowstore.yaml", environ={})
    assert str(mistake) == (
        "flowstore.yaml:3:5: storages.0.clasname: unknown key. Did you mean 'classname'?\n"
        "    clasname: SqlStorage\n"
        "    ^"
    )


def test_long_lines_are_cut_around_the_place(tmp_path: Path) -> None:
    text = f"storages: [{{name: A, configuration: {{a: {'x' * 500}}}, wrong: {'y' * 500}}}]"
    (mistake,) = reading(tmp_path, text)[1]
    _, line, caret = str(mistake).split("\n")
    assert len(line) == 160
    assert line[caret.index("^") :].startswith("wrong")


def test_tabs_keep_the_caret_in_its_column() -> None:
    mistake = Mistake(Place("f", 1, 3), "", "wrong", source_line="\ta\tb")
    assert str(mistake).split("\n")[2] == "\t ^"


def test_control_characters_never_reach_the_terminal() -> None:
    mistake = Mistake(Place("f", 1, 1), "", "wrong \x1b[31m", source_line="a\x1b[2Jb")
    assert "\x1b" not in str(mistake)


def test_mistakes_survive_pickling() -> None:
    error = ConfigurationError("one", [Mistake(Place("f", 1, 2), "a.b", "wrong", "right", "line")])
    copy = pickle.loads(pickle.dumps(error))
    assert copy.mistakes == error.mistakes
