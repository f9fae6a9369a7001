"""Every file in yaml_examples/ is loaded and run, by itself or as the profile of the file that it belongs to."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from celery import Celery

from flowstore import FlowStore, NotFoundError, ResultSchemaError, UnsupportedError
from flowstore.loading import json_schema
from flowstore.storages import MemoryStorage

EXAMPLES = sorted((Path(__file__).parents[2] / "yaml_examples").rglob("*.yaml"))
RESULT: dict[str, object] = {"sku": "apple", "price": 3.5}
FLOW = "a flow that no example names"


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the variables that examples use, and return the file to load; a profile's is the one that it is put over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "secrets"))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "results-url").write_text(f"sqlite:///{tmp_path}/from-secret.db\n", encoding="utf-8")
    path: Path = request.param
    base, _, profile = path.stem.partition(".")
    if profile:
        monkeypatch.setenv("FLOWSTORE_PROFILE", profile)
    return path.with_name(f"{base}.yaml")


def _result() -> dict[str, object]:
    return RESULT


every_example = pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES], indirect=True)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_begins_with_a_comment_and_suits_the_schema_for_editors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    jsonschema.Draft7Validator(json_schema()).validate(yaml.safe_load(text))


@every_example
def test_each_storage_gives_back_what_it_was_given(example: Path) -> None:
    store = FlowStore(example)
    assert store.configuration.warnings == ()
    assert store.configuration.storages
    for name in store.configuration.storages:
        store.storage(name).store(FLOW, name, "1", RESULT)
    again = FlowStore(example)
    for name in store.configuration.storages:
        assert store.storage(name).retrieve(FLOW, name, "1") == RESULT
        if isinstance(store.storage(name), MemoryStorage):
            continue
        assert again.storage(name).retrieve(FLOW, name, "1") == RESULT
        others = [other for other in store.configuration.storages if other != name]
        for other in others:
            with pytest.raises(NotFoundError):
                store.storage(other).retrieve(FLOW, name, "1")
    store.close()
    again.close()


@every_example
def test_each_task_and_flow_is_stored_as_configured(example: Path) -> None:
    store = FlowStore(example)
    configuration = store.configuration
    flows = [*configuration.flows, FLOW]
    for name, entry in configuration.tasks.items():
        for flow in flows:
            if entry.has_storage_key and entry.storage is None:
                assert store.route(flow, name) is None
            elif entry.storage_readonly:
                with pytest.raises(UnsupportedError):
                    store.store(flow, name, "1", RESULT)
            else:
                store.store(flow, name, "1", RESULT)
                assert store.retrieve(flow, name, "1") == RESULT
                assert store.retrieve(flow, store.stored_name(name), "1") == RESULT
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
    names = [name for name, entry in store.configuration.tasks.items() if store.route(FLOW, name)]
    names += ["a task that no example names"] if store.configuration.default_storage else []
    assert names
    for name in names:
        route = store.route(FLOW, name)
        assert route is not None
        task = app.task(name=name, shared=False)(_result)
        if route.readonly or not store.configuration.default_storage:
            sent = task.apply_async()
            assert store.retrieve(name, name, sent.id, default=None) == (None if route.readonly else RESULT)
        else:
            run = store.start(FLOW, task.s())
            assert run.get(timeout=10) == RESULT
            assert [(done.name, done.state) for done in run.tasks()] == [(route.task_name, "SUCCESS")]
    store.close()
    app.close()
