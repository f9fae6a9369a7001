"""What a configuration file may say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowstore.config import CacheEntry, Configuration, Mistake, read

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


def reading(tmp_path: Path, text: str, **environ: str) -> tuple[Configuration, list[Mistake]]:
    file = tmp_path / "flowstore.yaml"
    file.write_text(text, encoding="utf-8")
    return read(file, environ=environ)


def mistakes(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """Every mistake as ``line:column: path: message hint``."""
    _, found = reading(tmp_path, text, **environ)
    return [str(each).splitlines()[0].removeprefix(f"{tmp_path}/flowstore.yaml:") for each in found]


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
    assert mistakes(tmp_path, text) == [
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
    assert mistakes(tmp_path, text)[0].startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 2", "1:10: version: unknown version 2. This release reads version 1."),
        ("version: true", "1:10: version: must be a number, not a boolean."),
        ("versoin: 1", "1:1: versoin: unknown key. Did you mean 'version'?"),
        ("name: x", "1:1: name: unknown key. Known: flows, global, storages, tasks, version."),
        ("1: x", "1:1: 1: a key must be a string. Quote it."),
        ("storages: {a: 1}", "1:11: storages: must be a list. Begin each entry with '- '."),
        ("storages: [a]", "1:12: storages.0: must be a mapping"),
        ("storages: [{classname: A}]", "1:12: storages.0: the key 'name' is missing"),
        ("storages: [{name: 12}]", "1:19: storages.0.name: must be a string. Quote it to make it one."),
        ("storages: [{name: yes}]", "1:19: storages.0.name: must be a string. Quote it to make it one."),
        ("storages: [{name: ''}]", "1:19: storages.0.name: must not be empty"),
        ("storages: [{name: A, configuration: x}]", "1:37: storages.0.configuration: must be a mapping"),
        ("storages: [{name: A, configuration: {1: x}}]", "1:38: storages.0.configuration.1.[key]: must be a string."),
        (
            "storages: [{name: A, on_store_error: lgo}]",
            "1:38: storages.0.on_store_error: must be one of retry, fail, log. Did you mean 'log'?",
        ),
        ("storages: [{name: A, on_conflict: 7}]", "1:35: storages.0.on_conflict: must be one of replace, keep, error"),
        (
            "storages: [{name: A, history: al}]",
            "1:31: storages.0.history: must be one of none, errors, all. Did you mean 'all'?",
        ),
        ("flows: [{name: a, history: some}]", "1:28: flows.0.history: must be one of none, errors, all"),
        ("storages: [{name: A, cache: LRU}]", "1:29: storages.0.cache: must be a mapping"),
        ("storages: [{name: A, cache: {size: 1}}]", "1:29: storages.0.cache: the key 'classname' is missing"),
        ("storages: [{name: A, cache: {classname: LRU, size: 0}}]", "1:52: storages.0.cache.size: should be greater"),
        ("storages: [{name: A, cache: {classname: TTL, size: 1}}]", "1:29: storages.0.cache: a TTL cache needs"),
        (
            "storages: [{name: A, cache: {classname: LRU, size: 1, ttl: 1}}]",
            "1:55: storages.0.cache.ttl: only a TTL cache has a 'ttl'",
        ),
        ("storages: [{name: A}, {name: A}]", "1:30: storages.1.name: the storage 'A' is declared twice, first given"),
        ("tasks: [{name: a}, {name: a}]", "1:27: tasks.1.name: the task 'a' is declared twice"),
        ("flows: [{name: a}, {name: a}]", "1:27: flows.1.name: the flow 'a' is declared twice"),
        ("tasks: [{name: a, storage_readonly: 1}]", "1:37: tasks.0.storage_readonly: must be true or false"),
        ("tasks: [{name: a, storage: B}]", "1:28: tasks.0.storage: unknown storage 'B'"),
        ("flows: [{name: a, storage: B}]", "1:28: flows.0.storage: unknown storage 'B'"),
        ("global: {default_storage: B}", "1:27: global.default_storage: unknown storage 'B'"),
        ("global: {default: B}", "1:10: global.default: unknown key. Did you mean 'default_storage'?"),
    ],
)
def test_wrong_keys_types_and_values(tmp_path: Path, text: str, message: str) -> None:
    found = mistakes(tmp_path, text)
    assert found[0].startswith(message.rstrip("."))


def test_one_mistake_causes_no_second_one(tmp_path: Path) -> None:
    text = """\
storages:
  - {name: A, cache: {classname: LRV, size: 1}}
  - {nam: B}
  - {name: 1}
tasks:
  - {name: t, storage: A}
"""
    assert [each.split(" ")[0] for each in mistakes(tmp_path, text)] == ["2:34:", "3:6:", "4:12:"]


def test_an_unknown_storage_is_guessed(tmp_path: Path) -> None:
    text = "storages: [{name: Results}]\ntasks: [{name: t, storage: Resluts}]"
    assert mistakes(tmp_path, text) == ["2:28: tasks.0.storage: unknown storage 'Resluts'. Did you mean 'Results'?"]


@pytest.mark.parametrize(("first", "second"), [("storage: A, ", "storage: B, "), ("storage: B, ", "")])
def test_two_tasks_of_one_stored_name_need_one_storage(tmp_path: Path, first: str, second: str) -> None:
    text = f"""\
storages: [{{name: A}}, {{name: B}}]
tasks:
  - {{name: one, {first}storage_task_name: x}}
  - {{name: two, {second}storage_task_name: x}}
global: {{default_storage: A}}
"""
    (found,) = mistakes(tmp_path, text)
    assert "'two' and 'one' are both stored as 'x', but in" in found


def test_tasks_of_one_stored_name_may_share_a_storage(tmp_path: Path) -> None:
    text = """\
storages: [{name: A}, {name: B}]
tasks:
  - {name: one, storage: A, storage_task_name: x}
  - {name: two, storage: A, storage_task_name: x}
  - {name: three, storage: null, storage_task_name: x}
"""
    assert mistakes(tmp_path, text) == []


@pytest.mark.parametrize("word", ["false", "'false'", "no", "'{FLAG}'", "${FLAG}", "'False'"])
def test_a_flag_is_a_boolean_however_it_came(tmp_path: Path, word: str) -> None:
    configuration, found = reading(tmp_path, f"tasks:\n  - name: t\n    storage_readonly: {word}\n", FLAG="false")
    assert found == []
    assert configuration.tasks["t"].storage_readonly is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read"),
        ("{", "is not valid JSON"),
        ("[]", "must be an object"),
        ('{"type": "nonsense"}', "is not a valid JSON Schema: at $.type"),
        ('{"$schema": "http://json-schema.org/draft-04/schema#", "required": []}', "is not a valid JSON Schema"),
    ],
)
def test_an_output_schema_must_be_one(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    (found,) = mistakes(tmp_path, "tasks: [{name: t, output_schema: s.json}]")
    assert found.startswith("1:34: tasks.0.output_schema: ")
    assert message in found


def test_top_level_keys_with_x_hold_anchors_only(tmp_path: Path) -> None:
    text = "x-shared: &s {host: '{UNSET}'}\nstorages: [{name: A, configuration: {<<: *s, host: b}}]\n"
    configuration, found = reading(tmp_path, text)
    assert found == []
    assert configuration.storages["A"].configuration == {"host": "b"}
