"""Keys of a storage: its expiry, its limits, and what it does when it can't store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flowstore import ConfigurationError, FlowStore, RecordStorage
from flowstore.config.json_schema import json_schema
from flowstore.config.loading import load

PLAIN = {"name": "P", "classname": "PlainStorage", "import": "tests.store.own_adapters"}


def storage(**keys: Any) -> dict[str, Any]:
    return {"name": "S", "classname": "MemoryStorage", **keys}


def mistakes(configuration: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(configuration)
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("written", "expires"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("45s", 45.0),
        ("30m", 1800.0),
        ("12h", 43_200.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        ("1.5h", 5400.0),
        (" 7 d ", 604_800.0),
        (None, None),
    ],
)
def test_expires_is_a_span_of_time(written: Any, expires: float | None) -> None:
    configuration = {
        "storages": [storage(expires=written)],
        "flows": [{"name": "f", "expires": written}],
        "tasks": [{"name": "t", "expires": written}],
    }
    loaded = load(configuration)
    assert loaded.storages["S"].expires == expires
    assert (loaded.flows["f"].expires, loaded.flows["f"].has_expires_key) == (expires, True)
    assert (loaded.tasks["t"].expires, loaded.tasks["t"].has_expires_key) == (expires, True)
    assert jsonschema.Draft7Validator(json_schema()).is_valid(configuration)


def test_expires_may_come_from_the_environment() -> None:
    configuration = {"storages": [storage(expires="{KEEP}")], "tasks": [{"name": "t", "expires": "${KEEP:-1h}"}]}
    loaded = load(configuration, environ={"KEEP": "2d"})
    assert (loaded.storages["S"].expires, loaded.tasks["t"].expires) == (172_800.0, 172_800.0)
    environ = {"FLOWSTORE_STORAGES__S__EXPIRES": "5m", "FLOWSTORE_STORAGES__S__ALLOW_CLEAR": "false"}
    loaded = load({"storages": [storage()]}, environ=environ, overrides={"storages.S.max_result_size": 7})
    entry = loaded.storages["S"]
    assert (entry.expires, entry.allow_clear, entry.max_result_size) == (300.0, False, 7)
    assert entry.configuration == {}


@pytest.mark.parametrize("written", [-1, 0, "0d", "7 days", "-7d", "", "d", True, [], {}, "1e3", float("inf")])
@pytest.mark.parametrize("section", ["storages", "flows", "tasks"])
def test_other_spans_are_refused_with_their_place(section: str, written: Any) -> None:
    entries: dict[str, list[dict[str, Any]]] = {
        "storages": [storage()],
        "flows": [{"name": "f"}],
        "tasks": [{"name": "t"}],
    }
    entries[section][0]["expires"] = written
    [mistake] = mistakes(entries)
    assert f"{section}.0.expires" in mistake
    assert "7d" in mistake or "more than 0" in mistake
    assert not jsonschema.Draft7Validator(json_schema()).is_valid(entries) or written in ("0d", float("inf"))


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"allow_clear": 1}, "allow_clear"),
        ({"allow_clear": "perhaps"}, "allow_clear"),
        ({"max_result_size": 0}, "max_result_size"),
        ({"max_result_size": -1}, "max_result_size"),
        ({"max_result_size": True}, "max_result_size"),
        ({"max_result_size": "10 MB"}, "max_result_size"),
        ({"expire": "7d"}, "Did you mean 'expires'?"),
    ],
)
def test_other_values_are_refused_with_their_place(keys: dict[str, Any], place: str) -> None:
    [mistake] = mistakes({"storages": [storage(**keys)]})
    assert place in mistake


def test_nothing_expires_in_a_plain_storage() -> None:
    configuration = {
        "storages": [PLAIN, storage()],
        "flows": [{"name": "f", "expires": 5}, {"name": "g", "storage": "S", "expires": 5}],
        "tasks": [
            {"name": "a", "expires": 5},
            {"name": "b", "storage": "S", "expires": 5},
            {"name": "c", "storage": None, "expires": 5},
            {"name": "d", "expires": None},
        ],
        "global": {"default_storage": "P"},
    }
    found = mistakes(configuration)
    assert len(found) == 2
    for mistake, place in zip(found, ("flows.0.expires", "tasks.0.expires"), strict=True):
        assert place in mistake
        assert "can't expire results" in mistake


def test_the_nearest_expiry_counts(tmp_path: Path) -> None:
    file = tmp_path / "flowstore.yaml"
    file.write_text(
        """
        storages:
          - {name: S, classname: MemoryStorage, expires: 4d}
          - {name: T, classname: MemoryStorage, expires: 5d}
          - {name: U, classname: MemoryStorage}
        flows:
          - {name: plain}
          - {name: own, expires: 3d}
          - {name: ever, expires: null}
          - {name: elsewhere, storage: T}
          - {name: kept, storage: U}
        tasks:
          - {name: own, expires: 2d}
          - {name: ever, expires: null}
          - {name: there, storage: T}
          - {name: stored, storage_task_name: alias, expires: 1d}
        global: {default_storage: S}
        """
    )
    assert jsonschema.Draft7Validator(json_schema()).is_valid(yaml.safe_load(file.read_text()))
    store = FlowStore(file)
    days = {
        ("unknown", "unknown"): 4,
        ("plain", "unknown"): 4,
        ("own", "unknown"): 3,
        ("ever", "unknown"): None,
        ("elsewhere", "unknown"): 5,
        ("kept", "unknown"): None,
        ("own", "own"): 2,
        ("ever", "own"): 2,
        ("own", "ever"): None,
        ("plain", "there"): 5,
        ("own", "there"): 3,
        ("plain", "stored"): 1,
        ("plain", "alias"): 1,
    }
    for (flow_name, task_name), expected in days.items():
        route = store._router.get_route(flow_name, task_name)
        assert route.expires_in == (None if expected is None else expected * 86_400.0), (flow_name, task_name)


def test_the_storages_get_what_they_have_to_know() -> None:
    store = FlowStore({"storages": [storage(allow_clear="no", max_result_size=7), {"name": "MemoryStorage"}]})
    strict, loose = store.storage("S"), store.storage("MemoryStorage")
    assert isinstance(strict, RecordStorage)
    assert isinstance(loose, RecordStorage)
    assert (strict.allow_clear, strict.max_result_size) == (False, 7)
    assert (loose.allow_clear, loose.max_result_size) == (True, None)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("retry", ("retry", 30.0)),
        ("fail", ("fail", 0.0)),
        ("log", ("log", 0.0)),
        ({"retry": "2m"}, ("retry", 120.0)),
        ({"retry": 1.5}, ("retry", 1.5)),
        ({"retry": "0.5s"}, ("retry", 0.5)),
    ],
)
def test_a_policy_and_its_time(policy: Any, expected: tuple[str, float]) -> None:
    entry = load({"storages": [storage(on_store_error=policy)]}, environ={}).storages["S"]
    assert (entry.on_store_error, entry.patience) == expected
    jsonschema.Draft7Validator(json_schema()).validate({"storages": [storage(on_store_error=policy)]})


def test_without_a_policy_it_is_tried_for_thirty_seconds() -> None:
    entry = load({"storages": [storage()]}, environ={}).storages["S"]
    assert (entry.on_store_error, entry.patience) == ("retry", 30.0)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("lgo", "must be one of retry, fail, log. Did you mean 'log'?"),
        ("for a while", "must be one of retry, fail, log. Write {retry: 2m} to say for how long."),
        (5, "must be one of retry, fail, log"),
        (None, "must be one of retry, fail, log"),
        (["retry"], "must be one of retry, fail, log"),
        ({}, "the key 'retry' is missing"),
        ({"retri": "2m"}, "on_store_error.retri: unknown key. Did you mean 'retry'?"),
        ({"fail": "2m"}, "on_store_error.fail: unknown key"),
        ({"retry": "soon"}, "on_store_error.retry: must be seconds"),
        ({"retry": 0}, "on_store_error.retry: must be more than 0; on_store_error: fail never tries again"),
        ({"retry": -1}, "on_store_error.retry: must be seconds"),
        ({"retry": True}, "on_store_error.retry: must be seconds"),
    ],
)
def test_other_policies_are_refused_with_their_place(policy: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"storages": [storage(on_store_error=policy)]}, environ={})
    assert message in str(caught.value)
    assert not jsonschema.Draft7Validator(json_schema()).is_valid({"storages": [storage(on_store_error=policy)]})


@pytest.mark.parametrize("written", ["retry", {"retry": "1h"}])
def test_the_environment_sets_the_policy(written: Any) -> None:
    for variable, value, expected in (
        ("FLOWSTORE_STORAGES__S__ON_STORE_ERROR", "fail", ("fail", 0.0)),
        ("FLOWSTORE_STORAGES__S__ON_STORE_ERROR__RETRY", "2m", ("retry", 120.0)),
        ("FLOWSTORE_STORAGES__S__ON_STORE_ERROR__RETRY", "45", ("retry", 45.0)),
    ):
        entry = load({"storages": [storage(on_store_error=written)]}, environ={variable: value}).storages["S"]
        assert (entry.on_store_error, entry.patience) == expected
