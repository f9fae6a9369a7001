"""However a file is damaged, reading it answers with mistakes, places inside the file, and no secret."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flowstore import ConfigurationError
from flowstore.config import read
from flowstore.config.loading import load

PLANTED = "hunter2-planted"
BEFORE = """\
version: 1
x-common: &common {host: 'h', port: ${PORT}}
storages:
  - name: Hot
    classname: SqlStorage
    configuration:
      <<: *common
      connection_string: 'sqlite:///{DATA}'
"""
SECRET = f"      password: {PLANTED}\n      url: 'amqp://u:{PLANTED}@h'\n"
AFTER = """\
      echo: false
    cache: {classname: LRU, size: 5}
tasks:
  - {name: t, storage: Hot}
global:
  default_storage: Hot
"""
SNIPPETS = [
    *":-?[]{},#&*!|>'\"%@`<= \t\n",
    "${",
    "{{",
    "- ",
    ": ",
    "\n  ",
    "---\n",
    "<<: ",
    "*common",
    "&a ",
    "!!set ",
    "\x85",
]


def damaged(text: str, damage: list[tuple[float, str | None]]) -> str:
    for where, snippet in damage:
        at = int(where * len(text))
        text = text[:at] + snippet + text[at:] if snippet is not None else text[:at] + text[at + 1 :]
    return text


def refusal(file: Path) -> ConfigurationError | None:
    try:
        load(file, environ={"PORT": "1", "DATA": "/d"})
    except ConfigurationError as exc:
        return exc
    return None


places = st.floats(min_value=0, max_value=1)
damages = st.lists(st.tuples(places, st.one_of(st.none(), st.sampled_from(SNIPPETS))), min_size=1, max_size=3)


@settings(max_examples=400)
@given(damages, damages)
def test_damage_is_reported_inside_the_file_without_secrets(before: Any, after: Any) -> None:
    text = damaged(BEFORE, before) + SECRET + damaged(AFTER, after)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "f.yaml")
        file.write_text(text, encoding="utf-8", newline="")
        error = refusal(file)
    if error is not None:
        assert error.mistakes
        assert PLANTED not in f"{error} {error.mistakes!r}"
        for mistake in error.mistakes:
            assert mistake.place.line is None or mistake.place.line <= len(text.splitlines()) + 1


keys = st.sampled_from(
    ["name", "storages", "tasks", "flows", "global", "cache", "configuration", "storage", "x", 1, None]
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(keys, values))
def test_any_mapping_gets_an_answer(source: Any) -> None:
    configuration, mistakes = read(source, environ={})
    assert all(str(each) for each in mistakes)
    assert all(entry.name == name for name, entry in configuration.storages.items())


@given(st.text(max_size=80))
def test_any_text_gets_an_answer(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "f.yaml")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        assert read(file, environ={}) is not None
