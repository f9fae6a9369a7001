"""Files and mappings are read, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowstore.config import CacheEntry, read
from tests.config.kit import mistakes_in, reading

ISSUE = """\
version: 1
storages:
  - name: MySqlStorage
    classname: SqlStorage            # default: the name
    import: flowstore.storages       # default: flowstore.storages; any module for people's own
    configuration:                   # keyword arguments of the class; may be left out
      connection_string: 'sqlite:///{DATA_DIR}/results.db'
      echo: false
    on_store_error: retry            # retry | fail | log
    on_conflict: replace             # replace | keep | error
    cache: {classname: LRU, size: 500}
  - name: Scratch
    classname: MemoryStorage
tasks:
  - name: shop.tasks.price           # the Celery task's name
    storage: MySqlStorage
    storage_readonly: false
    storage_task_name: price
    output_schema: schemas/price.json
flows:
  - name: checkout
    storage: Scratch                 # for tasks of this flow that name none
global:
  default_storage: MySqlStorage
"""

SELINON_SQL = """\
storages:
  - name: 'MySqlStorage'
    classname: 'SqlStorage'
    import: 'selinon.storage'
    configuration:
      connection_string: 'postgres://postgres:postgres@postgres:5432/postgres'
      encoding: 'utf-8'
      echo: false
"""


def test_the_documented_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/price.json").write_text('{"type": "number"}')
    configuration, found = reading(tmp_path, ISSUE, DATA_DIR="/data")
    assert found == []
    sql = configuration.storages["MySqlStorage"]
    assert (sql.classname, sql.module) == ("SqlStorage", "flowstore.storages")
    assert sql.configuration == {"connection_string": "sqlite:////data/results.db", "echo": False}
    assert (sql.on_store_error, sql.on_conflict) == ("retry", "replace")
    assert sql.cache == CacheEntry("LRU", 500)
    assert (sql.place.line, sql.place.column) == (3, 5)
    scratch = configuration.storages["Scratch"]
    assert (scratch.classname, scratch.configuration, scratch.cache) == ("MemoryStorage", {}, None)
    task = configuration.tasks["shop.tasks.price"]
    assert (task.storage, task.storage_readonly, task.storage_task_name) == ("MySqlStorage", False, "price")
    assert task.output_schema == {"type": "number"}
    assert configuration.flows["checkout"].storage == "Scratch"
    assert configuration.default_storage == "MySqlStorage"
    assert configuration.source == str(tmp_path / "flowstore.yaml")


def test_selinons_form_needs_no_version(tmp_path: Path) -> None:
    configuration, found = reading(tmp_path, SELINON_SQL)
    assert found == []
    assert configuration.storages["MySqlStorage"].module == "selinon.storage"
    assert configuration.storages["MySqlStorage"].configuration["encoding"] == "utf-8"


def test_selinons_documented_duplicate_keys_are_reported(tmp_path: Path) -> None:
    text = """\
storages:
  - name: 'MyRedisStorage'
    classname: 'RedisStorage'
    import: 'selinon.storage'
    configuration:
      host: 'redishost'
      port: 6379
      db: 0
      password: 'secretpassword'
      charset: 'utf-8'
      host: 'mongohost'
      port: 27017
"""
    again = "duplicate key {!r}, first given at line {}, column 7. Remove one of them."
    assert mistakes_in(tmp_path, text) == [
        f"11:7: storages.0.configuration.host: {again.format('host', 6)}",
        f"12:7: storages.0.configuration.port: {again.format('port', 7)}",
    ]


def test_the_class_is_called_like_the_storage_by_default(tmp_path: Path) -> None:
    configuration, _ = reading(tmp_path, "storages: [{name: MemoryStorage}]")
    assert configuration.storages["MemoryStorage"].classname == "MemoryStorage"


def test_no_storage_and_storage_null_are_different(tmp_path: Path) -> None:
    configuration, found = reading(tmp_path, "tasks: [{name: a}, {name: b, storage: null}]")
    assert found == []
    assert [(task.storage, task.has_storage_key) for task in configuration.tasks.values()] == [
        (None, False),
        (None, True),
    ]


def test_null_stands_for_leaving_out(tmp_path: Path) -> None:
    text = "storages:\n  - name: A\n    configuration:\n    cache:\ntasks:\nflows:\nglobal:\n"
    configuration, found = reading(tmp_path, text)
    assert found == []
    assert configuration.storages["A"].configuration == {}


def test_a_mapping_is_as_good_as_a_file() -> None:
    source = {"storages": [{"name": "A", "configuration": {"port": "{PORT}", "hosts": ("a", "b")}}]}
    configuration, found = read(source, environ={"PORT": "1"})
    assert found == []
    assert configuration.storages["A"].configuration == {"port": "1", "hosts": ["a", "b"]}
    assert configuration.source == "<mapping>"
    assert source["storages"][0]["configuration"] == {"port": "{PORT}", "hosts": ("a", "b")}


def test_mistakes_in_a_mapping_have_paths() -> None:
    _, found = read({"storages": [{"nam": "A"}, {"nam": "B"}]}, environ={})
    assert [str(each) for each in found] == [
        "storages.0.nam: unknown key. Did you mean 'name'?",
        "storages.1.nam: unknown key. Did you mean 'name'?",
    ]


def test_a_mapping_that_contains_itself_is_refused() -> None:
    loop: dict[str, object] = {}
    loop["storages"] = loop
    _, found = read(loop, environ={})
    assert [each.message for each in found] == ["nested too deeply, or it contains itself"]


def test_the_variable_names_the_file_when_nothing_is_given(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("storages: [{name: A}]")
    configuration, found = read(environ={"FLOWSTORE_CONFIG": str(tmp_path / "other.yaml")})
    assert found == []
    assert list(configuration.storages) == ["A"]


def test_nothing_at_all_is_a_mistake() -> None:
    _, found = read(environ={})
    assert [str(each) for each in found] == [
        "no configuration was given. Give the path of a YAML file or a mapping, or set the variable FLOWSTORE_CONFIG."
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    _, absent = read(tmp_path / "absent.yaml", environ={})
    assert str(absent[0]) == f"{tmp_path}/absent.yaml: can't read the file: No such file or directory"
    _, folder = read(tmp_path, environ={})
    assert "Is a directory" in str(folder[0])
    (tmp_path / "latin.yaml").write_bytes(b"storages: \xe9")
    _, latin = read(tmp_path / "latin.yaml", environ={})
    assert latin[0].message == "the file is not UTF-8 text: byte 10 can't be read"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfstorages: [{name: A}]")
    configuration, found = read(tmp_path / "a.yaml", environ={})
    assert (found, list(configuration.storages)) == ([], ["A"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " the file is empty"),
        ("# nothing\n", " the file is empty"),
        ("---\n...\n", " the file is empty"),
        ("- a\n", "1:1: a configuration must be a mapping"),
        ("just text\n", "1:1: a configuration must be a mapping"),
        ("version: 1\n---\nversion: 1\n", "3:1: a second YAML document begins here"),
        ("storages: [\n", "2:1: not valid YAML: while parsing a flow node"),
        ("a: b: c\n", "1:5: not valid YAML: mapping values are not allowed here"),
        ("storages: \x07\n", "1:11: a character that YAML does not allow: U+0007"),
        ("storages: *nothing\n", "1:11: not valid YAML: found undefined alias 'nothing'"),
        ("storages: !!python/object:os.system {}\n", "1:11: storages: the YAML tag !!python/object:os.system is not"),
        ("storages: !mine []\n", "1:11: storages: the YAML tag !mine is not allowed here"),
        ("? [a, b]\n: 1\n", "1:3: a key must be a simple value"),
    ],
)
def test_what_is_no_configuration_at_all(tmp_path: Path, text: str, message: str) -> None:
    assert mistakes_in(tmp_path, text)[0].startswith(message)


def test_top_level_keys_with_x_hold_anchors_only(tmp_path: Path) -> None:
    text = "x-shared: &s {host: '{UNSET}'}\nstorages: [{name: A, configuration: {<<: *s, host: b}}]\n"
    configuration, found = reading(tmp_path, text)
    assert found == []
    assert configuration.storages["A"].configuration == {"host": "b"}
