"""Every file in yaml_examples/ is loaded and run, by itself or as the profile of the file that it belongs to."""

from __future__ import annotations

import re
import uuid
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from celery import Celery

from flowstore import FlowStore, NotFoundError, Query, ReadonlyError, ResultSchemaError
from flowstore.config.json_schema import json_schema
from flowstore.storages import MemoryStorage, RoutingStorage
from flowstore.store.operations import as_records
from tests.servers import s3

pytest_plugins = ("tests.storages.every_storage",)

EXAMPLES = sorted((Path(__file__).parents[2] / "yaml_examples").rglob("*.yaml"))
RESULT: dict[str, object] = {"sku": "apple", "price": 3.5}
FLOW = "a flow that no example names"


VARIABLE = re.compile(r"\$?\{([A-Z0-9_]+)")


def _servers(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Callable[[], str]]:
    """Return what gives each variable that examples may use; a server is started when its variable is asked for."""

    def store() -> s3.Store:
        found: s3.Store = request.getfixturevalue("real_s3" if s3.GIVEN or s3.find() else "emulation")
        return found

    def redis() -> str:
        found: str = request.getfixturevalue("redis_server_url")
        return found

    return {
        "DATA_DIR": lambda: str(tmp_path),
        "SECRETS_DIR": lambda: str(tmp_path / "secrets"),
        "PREFIX": lambda: f"t{uuid.uuid4().hex[:12]}",
        "POSTGRES_URL": lambda: str(request.getfixturevalue("postgres_recipe")[1]["connection_string"]),
        "MYSQL_URL": lambda: str(request.getfixturevalue("mysql_recipe")[1]["connection_string"]),
        "REDIS_URL": redis,
        "REDIS_HOST": lambda: urlsplit(redis()).hostname or "localhost",
        "REDIS_PORT": lambda: str(urlsplit(redis()).port or 6379),
        "MONGO_URL": lambda: str(request.getfixturevalue("mongo_server").uri),
        "S3_ENDPOINT": lambda: store().url,
        "S3_KEY": lambda: store().key,
        "S3_SECRET": lambda: store().secret,
        "FLOWSTORE_KEY": lambda: b64encode(bytes(32)).decode(),
        "AWS_ACCESS_KEY_ID": lambda: store().key,
        "AWS_SECRET_ACCESS_KEY": lambda: store().secret,
    }


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the variables that an example uses, and return the file to load; a profile's is the one it is put over."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key-of-2025").write_text(b64encode(bytes(range(32))).decode(), encoding="ascii")
    (tmp_path / "secrets" / "results-url").write_text(f"sqlite:///{tmp_path}/from-secret.db\n", encoding="utf-8")
    path: Path = request.param
    base, _, profile = path.stem.partition(".")
    if profile:
        monkeypatch.setenv("FLOWSTORE_PROFILE", profile)
    file = path.with_name(f"{base}.yaml")
    used = set(VARIABLE.findall(path.read_text(encoding="utf-8") + file.read_text(encoding="utf-8")))
    if "S3_ENDPOINT" in used:
        used |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    for name, value in _servers(request, tmp_path).items():
        if name in used:
            monkeypatch.setenv(name, value())
    return file


def _result() -> dict[str, object]:
    return RESULT


every_example = pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES], indirect=True)


def test_there_is_one_for_each_storage_and_each_shape_of_the_real_world() -> None:
    names = {path.stem for path in EXAMPLES}
    assert names >= {"memory", "file", "sqlite", "postgres", "mysql", "redis", "mongo", "s3", "routing"}
    assert names >= {"twenty_storages", "three_redis", "s3_prefixes", "many_storages_with_anchors"}


@pytest.mark.parametrize(("name", "count"), [("twenty_storages", 20), ("three_redis", 3), ("s3_prefixes", 8)])
def test_each_shape_is_what_its_name_says(name: str, count: int) -> None:
    (path,) = [path for path in EXAMPLES if path.stem == name]
    storages = yaml.safe_load(path.read_text(encoding="utf-8"))["storages"]
    assert len(storages) == count
    if name == "twenty_storages":
        buckets = [one["configuration"] for one in storages if one["classname"] == "S3Storage"]
        assert len({one["bucket_name"] for one in buckets}) == len(buckets) == 18
        assert all(one["encryption"] and one["versioned"] and one["aws_access_key_id"] for one in buckets)
    elif name == "three_redis":
        assert [one["configuration"]["db"] for one in storages] == [1, 2, 3]
    else:
        assert len({one["configuration"]["prefix"] for one in storages}) == 8
        assert len({one["configuration"]["s3_endpoint"] for one in storages}) == 1


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_begins_with_a_comment_and_suits_the_schema_for_editors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    jsonschema.Draft7Validator(json_schema()).validate(yaml.safe_load(text))


@every_example
def test_each_storage_gives_back_what_it_was_given(example: Path) -> None:
    store = FlowStore(example)
    assert store._configuration.warnings == ()
    assert store._configuration.storages
    for name in store._configuration.storages:
        store.storage(name).store(FLOW, name, "1", RESULT)
    again = FlowStore(example)
    for name in store._configuration.storages:
        assert store.storage(name).retrieve(FLOW, name, "1") == RESULT
        if isinstance(store.storage(name), MemoryStorage):
            continue
        assert again.storage(name).retrieve(FLOW, name, "1") == RESULT
        if any(isinstance(store.storage(one), RoutingStorage) for one in store._configuration.storages):
            continue  # it shares the records of those that it works on
        for other in [one for one in store._configuration.storages if one != name]:
            with pytest.raises(NotFoundError):
                store.storage(other).retrieve(FLOW, name, "1")
    store.close()
    again.close()


@every_example
def test_each_task_and_flow_is_stored_as_configured(example: Path) -> None:
    store = FlowStore(example)
    configuration = store._configuration
    flows = [*configuration.flows, FLOW]
    for name, entry in configuration.tasks.items():
        for flow in flows:
            if entry.has_storage_key and entry.storage is None:
                assert store._router.find_route(flow, name) is None
            elif entry.storage_readonly:
                with pytest.raises(ReadonlyError):
                    store.store(flow, name, "1", RESULT)
            else:
                store.store(flow, name, "1", RESULT)
                assert store.retrieve(flow, name, "1") == RESULT
                assert store.retrieve(flow, store._router.stored_name(name), "1") == RESULT
                assert entry.storage is None or store.task_storage(flow, name) is store.storage(entry.storage)
                if entry.output_schema is not None:
                    with pytest.raises(ResultSchemaError):
                        store.store(flow, name, "1", {"no": "such result"})
    for flow, flow_entry in configuration.flows.items():
        assert flow_entry.storage is not None
        store.store(flow, "any task", "1", RESULT)
        assert store.storage(flow_entry.storage).retrieve(flow, "any task", "1") == RESULT
    store.close()


@every_example
def test_tasks_of_an_attached_app_are_stored(example: Path) -> None:
    app = Celery("examples", set_as_current=False)
    app.conf.task_always_eager = True
    store = FlowStore(example, app=app)
    names = [name for name, entry in store._configuration.tasks.items() if store._router.find_route(FLOW, name)]
    names += ["a task that no example names"] if store._configuration.default_storage else []
    assert names
    for name in names:
        route = store._router.find_route(FLOW, name)
        assert route is not None
        task = app.task(name=name, shared=False)(_result)
        if route.readonly or not store._configuration.default_storage:
            sent = task.apply_async()
            assert store.retrieve(name, name, sent.id, default=None) == (None if route.readonly else RESULT)
        else:
            run = store.start(FLOW, task.s())
            assert run.get(timeout=10) == RESULT
            assert [(done.name, done.state) for done in run.tasks()] == [(route.task_name, "SUCCESS")]
    store.close()
    app.close()


@pytest.mark.parametrize("example", [path for path in EXAMPLES if path.stem == "compressed"], indirect=True)
def test_what_the_example_compresses_is_compressed(example: Path) -> None:
    store = FlowStore(example)
    for task, codec in (("any task", "zstd"), ("shop.tasks.export", "gzip")):
        store.store(FLOW, task, "1", [RESULT] * 100)
        (record,) = as_records(store.task_storage(FLOW, task)).records(Query(flow_name=FLOW, task_name=task))
        assert record.headers["codecs"] == [codec]
        assert len(record.payload) * 10 < record.headers["full_size"]
        assert store.retrieve(FLOW, task, "1") == [RESULT] * 100
    store.close()


@pytest.mark.parametrize("example", [path for path in EXAMPLES if path.stem == "encrypted"], indirect=True)
def test_what_the_example_encrypts_is_read_with_each_of_its_keys(example: Path, tmp_path: Path) -> None:
    for active in ("2025", "2026"):
        store = FlowStore(example, overrides={"storages.Private.encryption.active": active})
        store.store(FLOW, "any task", active, RESULT)
        store.close()
    store = FlowStore(example)
    found = list(as_records(store.storage("Private")).records(Query(flow_name=FLOW)))
    assert [record.headers["key_id"] for record in found] == ["2025", "2026"]
    assert [store.retrieve(FLOW, "any task", record.key.task_id) for record in found] == [RESULT, RESULT]
    store.close()
    assert not any(b"apple" in path.read_bytes() for path in tmp_path.glob("private.db*"))
