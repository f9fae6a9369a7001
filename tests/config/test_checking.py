"""Entries are checked against their keys and each other, and one mistake causes no second one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.kit import mistakes_in, reading


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
    found = mistakes_in(tmp_path, text)
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
    assert [each.split(" ")[0] for each in mistakes_in(tmp_path, text)] == ["2:34:", "3:6:", "4:12:"]


def test_an_unknown_storage_is_guessed(tmp_path: Path) -> None:
    text = "storages: [{name: Results}]\ntasks: [{name: t, storage: Resluts}]"
    assert mistakes_in(tmp_path, text) == ["2:28: tasks.0.storage: unknown storage 'Resluts'. Did you mean 'Results'?"]


@pytest.mark.parametrize(("first", "second"), [("storage: A, ", "storage: B, "), ("storage: B, ", "")])
def test_two_tasks_of_one_stored_name_need_one_storage(tmp_path: Path, first: str, second: str) -> None:
    text = f"""\
storages: [{{name: A}}, {{name: B}}]
tasks:
  - {{name: one, {first}storage_task_name: x}}
  - {{name: two, {second}storage_task_name: x}}
global: {{default_storage: A}}
"""
    (found,) = mistakes_in(tmp_path, text)
    assert "'two' and 'one' are both stored as 'x', but in" in found


def test_tasks_of_one_stored_name_may_share_a_storage(tmp_path: Path) -> None:
    text = """\
storages: [{name: A}, {name: B}]
tasks:
  - {name: one, storage: A, storage_task_name: x}
  - {name: two, storage: A, storage_task_name: x}
  - {name: three, storage: null, storage_task_name: x}
"""
    assert mistakes_in(tmp_path, text) == []


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
    (found,) = mistakes_in(tmp_path, "tasks: [{name: t, output_schema: s.json}]")
    assert found.startswith("1:34: tasks.0.output_schema: ")
    assert message in found
