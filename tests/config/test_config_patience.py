"""``on_store_error``: a word, or for how long it is tried again."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from flowstore import ConfigurationError
from flowstore.config.json_schema import json_schema
from flowstore.config.loading import load


def source(policy: Any) -> dict[str, Any]:
    return {"storages": [{"name": "S", "classname": "MemoryStorage", "on_store_error": policy}]}


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
    entry = load(source(policy), environ={}).storages["S"]
    assert (entry.on_store_error, entry.patience) == expected
    jsonschema.Draft7Validator(json_schema()).validate(source(policy))


def test_without_a_policy_it_is_tried_for_thirty_seconds() -> None:
    entry = load({"storages": [{"name": "S", "classname": "MemoryStorage"}]}, environ={}).storages["S"]
    assert (entry.on_store_error, entry.patience) == ("retry", 30.0)


@pytest.mark.parametrize(
    ("policy", "told"),
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
def test_a_mistake_is_told_with_its_place(policy: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(source(policy), environ={})
    assert told in str(caught.value)
    assert not jsonschema.Draft7Validator(json_schema()).is_valid(source(policy))


@pytest.mark.parametrize("written", ["retry", {"retry": "1h"}])
def test_the_environment_wins(written: Any) -> None:
    for variable, value, expected in (
        ("FLOWSTORE_STORAGES__S__ON_STORE_ERROR", "fail", ("fail", 0.0)),
        ("FLOWSTORE_STORAGES__S__ON_STORE_ERROR__RETRY", "2m", ("retry", 120.0)),
        ("FLOWSTORE_STORAGES__S__ON_STORE_ERROR__RETRY", "45", ("retry", 45.0)),
    ):
        entry = load(source(written), environ={variable: value}).storages["S"]
        assert (entry.on_store_error, entry.patience) == expected
