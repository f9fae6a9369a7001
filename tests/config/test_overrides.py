"""What wins: overrides in code over the environment over the profile over the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowstore.config import CacheEntry, Configuration, Mistake, read

BASE = """\
storages:
  - name: HOT
    classname: SqlStorage
    configuration: {host: base, port: 1, Mixed: x, nested: {a: 1}}
    cache: {classname: TTL, size: 10, ttl: 5}
  - name: cold-store.eu
    configuration: {host: '{UNSET}', password: {file: /run/x}}
tasks:
  - {name: shop.tasks.price, storage: HOT}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    file = tmp_path / "flowstore.yaml"
    file.write_text(BASE)
    return file


def ok(file: Path, overrides: Any = None, **environ: str) -> Configuration:
    configuration, mistakes = read(
        file, environ={"FLOWSTORE_STORAGES__COLD_STORE_EU__HOST": "h", **environ}, overrides=overrides
    )
    assert mistakes == []
    return configuration


def wrong(file: Path, **environ: str) -> Mistake:
    _, mistakes = read(file, environ={"UNSET": "set", **environ})
    (mistake,) = mistakes
    return mistake


def test_the_environment_wins_over_the_file_and_code_over_both(base: Path) -> None:
    variable = {"FLOWSTORE_STORAGES__HOT__HOST": "environment"}
    assert ok(base).storages["HOT"].configuration["host"] == "base"
    assert ok(base, **variable).storages["HOT"].configuration["host"] == "environment"
    assert ok(base, {"storages.HOT.host": "code"}, **variable).storages["HOT"].configuration["host"] == "code"


def test_what_is_overridden_needs_no_variable(base: Path) -> None:
    assert ok(base).storages["cold-store.eu"].configuration["host"] == "h"
    (mistake,) = read(base, environ={})[1]
    assert mistake.message == "storage 'cold-store.eu': the variable UNSET is not set"


def test_own_keys_come_before_arguments(base: Path) -> None:
    entry = ok(
        base,
        FLOWSTORE_STORAGES__HOT__ON_STORE_ERROR="log",
        FLOWSTORE_STORAGES__HOT__CACHE__SIZE="99",
        FLOWSTORE_STORAGES__HOT__CONFIGURATION__PORT="7",
        FLOWSTORE_STORAGES__HOT__NAME="an argument",
        FLOWSTORE_STORAGES__HOT__MIXED="y",
        FLOWSTORE_STORAGES__HOT__NESTED__A="2",
        FLOWSTORE_STORAGES__HOT__NEW="n",
    ).storages["HOT"]
    assert (entry.on_store_error, entry.cache) == ("log", CacheEntry("TTL", 99, 5.0))
    assert entry.configuration == {
        "host": "base", "port": "7", "Mixed": "y", "nested": {"a": "2"}, "name": "an argument", "new": "n"
    }  # fmt: skip


def test_a_secret_can_be_moved_to_a_file_and_back(base: Path) -> None:
    variable = {"FLOWSTORE_STORAGES__COLD_STORE_EU__PASSWORD__FILE": "/run/y"}
    assert ok(base, **variable).storages["cold-store.eu"].configuration["password"] == {"file": "/run/y"}
    variable = {"FLOWSTORE_STORAGES__COLD_STORE_EU__PASSWORD": "p"}
    assert ok(base, **variable).storages["cold-store.eu"].configuration["password"] == "p"
    configuration = ok(base, {"storages.HOT.host.file": "/run/z"})
    assert configuration.storages["HOT"].configuration["host"] == {"file": "/run/z"}


def test_the_default_storage_can_be_set_where_the_file_has_none(base: Path) -> None:
    assert ok(base, FLOWSTORE_GLOBAL__DEFAULT_STORAGE="HOT").default_storage == "HOT"
    assert ok(base, {"global.default_storage": "HOT"}).default_storage == "HOT"


def test_dotted_keys_reach_names_with_dots(base: Path) -> None:
    configuration = ok(
        base, {"storages.cold-store.eu.port": 5, "tasks.shop.tasks.price.storage": None, "storages.hot.db": 3}
    )
    assert configuration.storages["cold-store.eu"].configuration["port"] == 5
    assert configuration.storages["HOT"].configuration["db"] == 3
    assert configuration.tasks["shop.tasks.price"].storage is None
    assert configuration.tasks["shop.tasks.price"].has_storage_key


def test_values_from_outside_are_not_expanded(base: Path) -> None:
    entry = ok(base, {"storages.HOT.port": "{A}"}, FLOWSTORE_STORAGES__HOT__HOST="${A}", A="1").storages["HOT"]
    assert (entry.configuration["host"], entry.configuration["port"]) == ("${A}", "{A}")


@pytest.mark.parametrize(
    ("variable", "message", "hint"),
    [
        ("FLOWSTORE_STORAGES__HOTT__HOST", "unknown storage 'HOTT'", "Did you mean 'HOT'?"),
        ("FLOWSTORE_STORAGES__HOT", "the override names the storage 'HOT', but none of its keys", None),
        ("FLOWSTORE_STORAGES__HOT__", "the override names the storage 'HOT', but none of its keys", None),
        ("FLOWSTORE_STORAGE__HOT__HOST", "unknown section 'storage'", "Did you mean 'storages'?"),
        ("FLOWSTORE_TASKS__T__STORAGE", "unknown section 'tasks'", None),
        ("FLOWSTORE_GLOBAL__DEFAULT", "unknown key", "Did you mean 'default_storage'?"),
        ("FLOWSTORE_GLOBAL__DEFAULT_STORAGE", "unknown storage 'v'", "Known: HOT, cold-store.eu."),
        ("FLOWSTORE_STORAGES__HOT__ON_CONFLICT", "must be one of replace, keep, error", None),
    ],
)
def test_a_variable_that_means_nothing_is_a_mistake(base: Path, variable: str, message: str, hint: str | None) -> None:
    mistake = read(base, environ={"UNSET": "set", variable: "v"})[1][0]
    assert mistake.place.file == variable
    assert mistake.message == message
    if hint:
        assert mistake.hint == hint


def test_other_variables_are_none_of_ours(base: Path) -> None:
    ok(base, FLOWSTORE_LOG="x", FLOWSTORE_STORAGES_SERVICE_HOST="10.0.0.1", OTHER__STORAGES__X="1")


def test_names_that_look_alike_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("storages: [{name: a-b}, {name: a_b}, {name: A, configuration: {}}, {name: A__B}]")
    (mistake,) = read(file, environ={"FLOWSTORE_STORAGES__A_B__X": "1"})[1]
    assert mistake.message == "'A_B' could be 'a-b' or 'a_b'"
    configuration, mistakes = read(file, environ={"FLOWSTORE_STORAGES__A__B__X": "1"})
    assert mistakes == []
    assert configuration.storages["A__B"].configuration == {"x": "1"}


def test_a_list_cannot_be_overridden_by_name(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("storages: [{name: A, configuration: {hosts: [a]}}]")
    (mistake,) = read(file, environ={"FLOWSTORE_STORAGES__A__HOSTS__0": "b"})[1]
    assert mistake.message == "'hosts' is a list, whose items can't be overridden"


PROFILE = """\
storages:
  - name: HOT
    configuration: {port: 2, nested: {b: 2}}
  - name: extra
global: {default_storage: extra}
"""


def test_a_profile_is_merged_by_name(base: Path) -> None:
    base.with_name("flowstore.prod.yaml").write_text(PROFILE)
    configuration = ok(base, FLOWSTORE_PROFILE="prod")
    hot = configuration.storages["HOT"]
    assert (hot.classname, hot.cache) == ("SqlStorage", CacheEntry("TTL", 10, 5.0))
    assert hot.configuration == {"host": "base", "port": 2, "Mixed": "x", "nested": {"a": 1, "b": 2}}
    assert list(configuration.storages) == ["HOT", "cold-store.eu", "extra"]
    assert configuration.default_storage == "extra"
    hot = ok(base, FLOWSTORE_PROFILE="prod", FLOWSTORE_STORAGES__HOT__PORT="3").storages["HOT"]
    assert hot.configuration["port"] == "3"


def test_another_class_in_a_profile_starts_afresh(base: Path) -> None:
    text = "storages: [{name: HOT, classname: MemoryStorage, cache: {classname: LRU, size: 1}}]"
    base.with_name("flowstore.dev.yaml").write_text(text)
    hot = ok(base, FLOWSTORE_PROFILE="dev").storages["HOT"]
    assert (hot.configuration, hot.cache) == ({}, CacheEntry("LRU", 1))


def test_mistakes_in_a_profile_are_placed_there(base: Path) -> None:
    profile = base.with_name("flowstore.prod.yaml")
    profile.write_text("storages:\n  - name: HOT\n    on_conflict: never\n")
    mistake = wrong(base, FLOWSTORE_PROFILE="prod")
    assert (mistake.place.file, mistake.place.line) == (str(profile), 3)
    assert mistake.source_line == "    on_conflict: never"


@pytest.mark.parametrize(
    ("profile", "message"),
    [("none", "the profile 'none' has no file"), ("../x", "'../x' is not a valid name of a profile")],
)
def test_a_profile_that_is_not_there(base: Path, profile: str, message: str) -> None:
    assert wrong(base, FLOWSTORE_PROFILE=profile).message.startswith(message)
