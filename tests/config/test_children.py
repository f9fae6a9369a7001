"""Storages that work on other storages: checked when the configuration is, with file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowstore import ConfigurationError, FlowStore
from flowstore.config.json_schema import json_schema
from flowstore.config.loading import load

HEAD = """\
storages:
  - name: Hot
    classname: MemoryStorage
  - name: Simple
    classname: Nothing
    import: adapters_of_test
  - name: Routed
    classname: RoutingStorage
    configuration:
"""


@pytest.fixture
def path(tmp_path: Path, modules: Path) -> Path:
    return tmp_path / "flowstore.yaml"


def mistakes(path: Path, rest: str) -> list[str]:
    path.write_text(HEAD + rest, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return [
        f"{each.place.line}:{each.place.column} {each.message} {each.hint or ''}".strip()
        for each in caught.value.mistakes
    ]


def test_children_are_declared_or_inline(path: Path) -> None:
    path.write_text(
        HEAD
        + """\
      storages:
        small: Hot
        large: {classname: FileStorage, configuration: {path: files, durable: 'no'}}
      default: small
      routes:
        - {storage: large, min_size: '100', kinds: [result]}
""",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        store = FlowStore(path)
        store.storage("Routed").store("f", "t", "1", "x" * 200)
        assert store.storage("Routed").retrieve("f", "t", "1") == "x" * 200
        assert len(list((path.parent / "files").rglob("*"))) > 1
        store.close()


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (
            "      storages: {small: Hott}\n      default: small\n",
            ["10:25 unknown storage 'Hott' Did you mean 'Hot'?"],
        ),
        (
            "      storages: {small: Hot}\n      default: smal\n",
            ["11:16 'smal' is not among the storages: small"],
        ),
        (
            "      storages: {small: Hot}\n      default: small\n      routes:\n        - {storage: large}\n",
            ["13:21 'large' is not among the storages: small"],
        ),
        (
            "      storages: {small: Hot}\n      default: small\n      routes: [{storage: small, min_siz: 1}]\n",
            ["12:42 Unexpected keyword argument"],
        ),
        (
            "      storages: {small: Hot}\n      default: small\n      routes: [{storage: small, min_size: -1}]\n",
            ["12:43 must be between 0 and 16777216"],
        ),
        (
            "      storages: {small: Hot}\n      default: small\n      fallback: [spare]\n",
            ["12:18 'spare' is not among the storages: small"],
        ),
        (
            "      storages: {small: {classname: FileStorag, configuration: {path: x}}}\n      default: small\n",
            ["10:37 unknown adapter 'FileStorag' Did you mean 'FileStorage'?"],
        ),
        (
            "      storages: {small: {classname: FileStorage, configuration: {pth: x}}}\n      default: small\n",
            ["10:66 FileStorage has no argument 'pth' Did you mean 'path'?"],
        ),
        (
            "      storages: {small: {classname: MemoryStorage, cache: 1}}\n      default: small\n",
            ["10:52 unknown key Known: classname, configuration, import."],
        ),
        (
            "      storages: {small: Simple}\n      default: small\n",
            ["10:25 'Nothing' is not a RecordStorage, which is needed here"],
        ),
        (
            "      storages: {small: {classname: Nothing, import: adapters_of_test}}\n      default: small\n",
            ["10:25 'Nothing' is not a RecordStorage, which is needed here"],
        ),
        (
            "      storages: [Hot]\n      default: small\n",
            ["10:17 must be a mapping of names to storages"],
        ),
        (
            "      storages: {small: 1}\n      default: small\n",
            ["10:25 must be the name of a declared storage, or an entry with a classname"],
        ),
        (
            "      storages: {small: Routed}\n      default: small\n",
            ["10:25 storage 'Routed' works on itself: Routed -> Routed"],
        ),
    ],
)
def test_mistakes_have_their_place(path: Path, rest: str, expected: list[str]) -> None:
    assert mistakes(path, rest) == expected


def test_circles_are_refused_wherever_they_close(path: Path) -> None:
    rest = """\
      storages: {a: Other}
      default: a
  - name: Other
    classname: RoutingStorage
    configuration:
      storages:
        b:
          classname: RoutingStorage
          configuration: {storages: {c: Routed}, default: c}
      default: b
"""
    assert mistakes(path, rest) == [
        "10:21 storage 'Routed' works on itself: Routed -> Other -> Routed",
        "18:41 storage 'Other' works on itself: Other -> Routed -> Other",
    ]


def test_secrets_of_inline_storages_are_warned_of_and_not_shown(path: Path) -> None:
    path.write_text(
        HEAD
        + """\
      storages:
        small: Hot
        server: {classname: RedisStorage, configuration: {host: localhost, password: canary-in-the-mine}}
      default: small
""",
        encoding="utf-8",
    )
    configuration = load(path)
    assert [warning.message for warning in configuration.warnings] == ["a secret in plain text"]
    assert "canary" not in f"{configuration} {configuration.warnings}"


def test_editors_know_how_children_are_written() -> None:
    text = str(json_schema())
    assert "'write_through'" in text
    assert "'min_size'" in text
