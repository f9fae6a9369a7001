"""Arguments are checked and converted by the constructor's annotations, without a single constructor being called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowstore.config.loading import load
from tests.config.kit import loaded, refused


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("port", 7, 7),
        ("port", "7", 7),
        ("tls", True, True),
        ("tls", "false", False),
        ("tls", "False", False),
        ("ratio", "0.5", 0.5),
        ("ratio", 1, 1.0),
        ("maybe", None, None),
        ("maybe", "5", 5),
        ("either", "5", "5"),
        ("either", 5, 5),
        ("level", "high", "high"),
        ("hosts", ["a", "b"], ["a", "b"]),
        ("options", {"a": "1"}, {"a": 1}),
        ("few", 3, 3),
        ("loose", {"file": "x"}, {"file": "x"}),
        ("anything", [1, {"a": 2}], [1, {"a": 2}]),
        ("odd", "x", "x"),
    ],
)
def test_arguments_are_converted_by_the_annotations(modules: Path, name: str, given: Any, expected: Any) -> None:
    for classname in ("Typed", "Inherited"):
        value = loaded(classname, {"host": "h", name: given}).configuration[name]
        assert (value, type(value)) == (expected, type(expected))


def test_richer_annotations(modules: Path) -> None:
    given = {"host": "h", "mode": "safe", "pool": {"size": "3"}, "wait": 90, "folder": "/x", "key": "k"}
    arguments = loaded("Typed", given).configuration
    assert arguments["mode"].value == "safe"
    assert (arguments["pool"].size, arguments["pool"].name) == (3, "x")
    assert arguments["wait"].total_seconds() == 90
    assert arguments["folder"] == Path("/x")
    assert arguments["key"].get_secret_value() == "k"


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({}, "configuration: Typed needs the argument 'host'"),
        (None, "configuration: Typed needs the argument 'host'"),
        ({"host": "h", "prot": 1}, "configuration.prot: Typed has no argument 'prot'"),
        ({"host": 5}, "configuration.host: should be a valid string"),
        ({"host": "h", "port": "x"}, "configuration.port: should be a valid integer, unable to parse string"),
        ({"host": "h", "port": True}, "configuration.port: should be a number, not true or false"),
        ({"host": "h", "tls": 1}, "configuration.tls: should be true or false, not a number"),
        ({"host": "h", "maybe": "x"}, "configuration.maybe: should be a valid integer"),
        ({"host": "h", "either": []}, "configuration.either: should be a valid integer, or should be a valid string"),
        ({"host": "h", "mode": "slow"}, "configuration.mode: should be 'fast' or 'safe'"),
        ({"host": "h", "level": "x"}, "configuration.level: should be 'low' or 'high'"),
        ({"host": "h", "hosts": ["a", 1]}, "configuration.hosts.1: should be a valid string"),
        ({"host": "h", "options": {"a": "b"}}, "configuration.options.a: should be a valid integer"),
        ({"host": "h", "pool": {}}, "configuration.pool: Field required"),
        ({"host": "h", "few": 9}, "configuration.few: should be less than or equal to 3"),
        ({"host": "h", "password": 12345}, "configuration.password: should be str | None"),
    ],
)
def test_wrong_arguments(modules: Path, configuration: Any, message: str) -> None:
    (found,) = refused("Typed", configuration)
    assert found.startswith(message)


def test_arguments_without_annotations_are_passed_as_given(modules: Path) -> None:
    given = {"host": ["a"], "port": "x"}
    assert loaded("Untyped", given).configuration == given
    assert refused("Untyped", {}) == ["configuration: Untyped needs the arguments 'host', 'port'"]


def test_an_open_constructor_takes_any_name_and_still_checks_its_own(modules: Path) -> None:
    assert loaded("Open", {"port": "5", "what": "ever"}).configuration == {"port": 5, "what": "ever"}
    assert refused("Open", {"port": "x", "what": 1})[0].startswith("configuration.port: ")


def test_constructors_of_other_kinds(modules: Path) -> None:
    assert loaded("Data", {"host": "h", "port": "5"}).configuration == {"host": "h", "port": 5}
    assert loaded("Nothing").configuration == {}
    assert refused("Nothing", {"x": 1}) == ["configuration.x: Nothing has no argument 'x'"]


def test_unquoted_variables_are_what_the_argument_wants(tmp_path: Path, modules: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        "storages:\n  - name: S\n    classname: Typed\n    import: adapters_of_test\n    configuration:\n"
        + "".join(f"      {name}: ${{V}}\n" for name in ("host", "port", "either", "loose", "token", "password"))
    )
    arguments = load(file, environ={"V": "0123"}).storages["S"].configuration
    assert arguments == {
        "host": "0123", "port": 83, "either": 83, "loose": 83, "token": "0123", "password": "0123"
    }  # fmt: skip


def test_files_for_secrets_go_where_text_goes(modules: Path, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("pw\n")
    file = {"file": str(tmp_path / "s")}
    given = {"host": file, "password": file, "key": file, "token": file, "loose": file, "anything": {"password": file}}
    arguments = loaded("Typed", given).configuration
    assert (arguments["host"], arguments["password"], arguments["token"]) == ("pw", "pw", "pw")
    assert arguments["key"].get_secret_value() == "pw"
    assert arguments["loose"] == file
    assert arguments["anything"] == {"password": "pw"}
    assert refused("Typed", {"host": "h", "port": file})[0].startswith("configuration.port: should be a valid integer")


def test_arguments_that_cannot_be_expanded_are_reported_once(modules: Path) -> None:
    assert refused("Typed", {"host": "{UNSET}"}) == [
        "configuration.host: storage 'S': the variable UNSET is not set"
    ]  # fmt: skip


def test_quotes_and_blanks_in_values_arrive_as_they_are(modules: Path) -> None:
    value = """ it's "quoted" \\ \n\t%s """
    assert loaded("Typed", {"host": value}).configuration["host"] == value
