"""Files that were written for Selinon: storages load, what means nothing here is named once, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowstore import ConfigurationError
from flowstore.config import selinon
from flowstore.config.adapters import adapter_class
from flowstore.config.loading import load

STORAGES = """\
storages:
  - name: MySqlStorage
    classname: PostgreSQL
    import: selinon.storages.postgresql
    configuration: {connection_string: 'postgres://postgres:postgres@postgres:5432/postgres', encoding: utf-8}
  - name: MyRedisStorage
    classname: Redis
    import: selinon.storages.redis
    configuration: {host: redishost, port: 6379, db: 0, charset: utf-8}
  - name: MyMongoStorage
    classname: MongoDB
    import: selinon.storages.mongodb
    configuration: {db_name: database_name, collection_name: collection_name, host: mongohost}
  - name: Memory
    classname: InMemoryStorage
    import: selinon.storages.memory
    configuration: {echo: false}
  - name: Files
    classname: Filesystem
    import: selinon.storages.filesystem
    configuration: {path: results}
  - name: Bucket
    classname: S3
    import: selinon.storages.s3
    configuration: {bucket_name: my-bucket, region_name: us-east-1, encryption: false, versioned: false}
"""
OTHERS = """\
tasks:
  - {name: one, classname: HelloTask, import: myapp.tasks, max_retry: 0, queue: task1_v0, storage: Memory}
  - {name: two, classname: HelloTask, import: myapp.tasks, retry_countdown: 3, throttling: {s: 1}, storage: Memory}
flows:
  - flow1
  - name: flow2
flow-definitions:
  - {name: flow1, edges: [{from: , to: one}]}
global:
  default_queue: queue_v0
  trace: [{json: true}]
  predicates_module: myapp.predicates
  migration_dir: migration_dir
"""


def mistakes_of(text: str, path: Path) -> ConfigurationError:
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ={})
    return caught.value


def test_its_storages_load(tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(STORAGES)
    configuration = load(path, environ={})
    classes = [adapter_class(entry).__name__ for entry in configuration.storages.values()]
    assert classes == ["SqlStorage", "RedisStorage", "MongoStorage", "MemoryStorage", "FileStorage", "S3Storage"]


def test_what_means_nothing_here_is_named_once_with_what_to_do(tmp_path: Path) -> None:
    error = mistakes_of(STORAGES + OTHERS, tmp_path / "nodes.yaml")
    assert str(error).splitlines()[1] == selinon.HINT
    named = {mistake.path.rpartition(".")[2]: mistake for mistake in error.mistakes}
    assert len(named) == len(error.mistakes)
    assert set(named) == {
        *("classname", "import", "max_retry", "queue", "retry_countdown", "throttling"),
        *("flow-definitions", "default_queue", "trace", "predicates_module", "migration_dir"),
    }
    assert named["classname"].path == "tasks.0.classname"
    assert "(2 tasks have it)" in named["classname"].message
    assert "Did you mean" not in str(error)
    for mistake in error.mistakes:
        assert mistake.hint is not None
        assert mistake.hint.startswith("Delete it: ")


def test_its_cache_is_told_how_to_be_written(tmp_path: Path) -> None:
    text = (
        "storages:\n  - name: MemoryStorage\n"
        "    cache: {name: LRU, import: selinon.caches, configuration: {max_cache_size: 10}}\n"
    )
    (mistake,) = mistakes_of(text, tmp_path / "nodes.yaml").mistakes
    assert mistake.hint == "Write cache: {classname: LRU, size: 100}."


def test_a_file_of_ours_with_a_slip_gets_no_such_hint(tmp_path: Path) -> None:
    text = "storages:\n  - name: MemoryStorage\ntasks:\n  - {name: a, storag: MemoryStorage}\n"
    error = mistakes_of(text, tmp_path / "flowstore.yaml")
    assert "Selinon" not in str(error)
    assert "Did you mean 'storage'?" in str(error)


def test_flows_may_be_names_alone(tmp_path: Path) -> None:
    path = tmp_path / "flowstore.yaml"
    path.write_text("storages:\n  - name: MemoryStorage\nflows: [hello, {name: world, storage: MemoryStorage}]\n")
    (tmp_path / "flowstore.test.yaml").write_text("flows: [{name: hello, storage: MemoryStorage}]\n")
    configuration = load(path, environ={})
    assert configuration.flows["hello"].storage is None
    assert list(configuration.flows) == ["hello", "world"]
    profiled = load(path, environ={"FLOWSTORE_PROFILE": "test"})
    assert list(profiled.flows) == ["hello", "world"]
    assert profiled.flows["hello"].storage == "MemoryStorage"


@pytest.mark.parametrize("flow", ["3", "''", "[]", "true"])
def test_a_flow_that_is_no_name_is_refused(flow: str, tmp_path: Path) -> None:
    text = f"storages:\n  - name: MemoryStorage\nflows: [{flow}]\n"
    assert mistakes_of(text, tmp_path / "flowstore.yaml").mistakes[0].path.startswith("flows.0")


def test_a_guessed_key_causes_no_second_mistake(tmp_path: Path) -> None:
    text = "storages:\n  - name: MemoryStorage\nglobal: {default_name: q_v0}\n"
    (mistake,) = mistakes_of(text, tmp_path / "flowstore.yaml").mistakes
    assert (mistake.message, mistake.hint) == ("unknown key", "Did you mean 'default_storage'?")


def test_a_password_leaves_names_of_modules_readable(tmp_path: Path) -> None:
    text = STORAGES.replace("selinon.storages.postgresql", "no_such.postgresql").replace("utf-8}", "utf-8, x: 1}", 1)
    error = mistakes_of(text, tmp_path / "nodes.yaml")
    assert "can't import the module 'no_such.postgresql'" in str(error)
    assert "import: no_such.postgresql" in str(error)
    # The password itself stays hidden, wherever else it stands.
    text = STORAGES.replace("encoding: utf-8}", "nonsense: utf-8}", 1)
    shown = str(mistakes_of(text, tmp_path / "nodes.yaml"))
    assert "postgres:postgres@" not in shown


NAMED = ("name", "storage", "classname", "import", "storage_task_name", "default_storage", "output_schema", "version")
UNHASHABLE: tuple[object, ...] = ([], {}, [[]], {"a": []}, [{}])


@pytest.mark.parametrize("value", UNHASHABLE, ids=repr)
def test_what_can_be_no_name_is_a_mistake_wherever_a_name_is_expected(value: object) -> None:
    for section in ("storages", "tasks", "flows"):
        for key in (*NAMED, "on_conflict", "history", "serializer", "expires", "on_store_error", "cache"):
            for more in ({}, {"name": "MemoryStorage"}):
                with pytest.raises(ConfigurationError):
                    load(
                        {"storages": [{"name": "S", "classname": "X"}], section: [{**more, key: value, "y": 1}]},
                        environ={},
                    )
        with pytest.raises(ConfigurationError):
            load({section: [value], "z": 1}, environ={})
    for key in NAMED:
        with pytest.raises(ConfigurationError):
            load({"global": {key: value, "y": 1}}, environ={})
        with pytest.raises(ConfigurationError):
            load({key: value, "z": 1}, environ={})
