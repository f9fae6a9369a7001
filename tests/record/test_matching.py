"""What patterns, fields and the order by task id mean, and which of them are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.errors import InvalidKeyError, StorageError
from flowstore.record import Key, Query, Ref
from flowstore.record.matching import (
    dump_cursor,
    literal_prefix,
    load_cursor,
    matches_fields,
    matches_pattern,
    prefix_end,
)
from flowstore.testing.aspects.fields import FIELDS, VALUES
from flowstore.testing.aspects.queries import IDS, PATTERNS, is_like
from tests.storages.storage_kit import record

TEXTS = st.text("ab-[]!*?.\n\0é🍎", max_size=8)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_matched_exactly(pattern: str) -> None:
    for task_id in IDS:
        assert matches_pattern(task_id, pattern) == is_like(task_id, pattern), task_id


@given(TEXTS, TEXTS)
def test_any_text_is_a_pattern(text: str, pattern: str) -> None:
    assert matches_pattern(text, pattern) == is_like(text, pattern)


def test_a_hostile_pattern_comes_to_an_end() -> None:
    assert not matches_pattern("a" * 100_000, "*a" * 499 + "*b")
    assert matches_pattern("a" * 100_000 + "b", "*a" * 499 + "*b")


@given(TEXTS, TEXTS)
def test_what_starts_alike_lies_between_two_texts(pattern: str, rest: str) -> None:
    start = literal_prefix(pattern)
    behind = prefix_end(start)
    assert start + rest >= start
    assert behind is None or start + rest < behind
    assert pattern.startswith(start)
    assert not {"*", "?"} & set(start)


@pytest.mark.parametrize(
    ("start", "behind"),
    [
        ("", None),
        ("a", "b"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff" * 3, None),
        ("\ud7ff", "\ue000"),
        ("\uffff", "\U00010000"),
    ],
)
def test_the_first_text_behind_a_start(start: str, behind: str | None) -> None:
    assert prefix_end(start) == behind


@pytest.mark.parametrize(("where", "expected"), FIELDS, ids=str)
def test_fields_are_compared_by_type_and_value(where: dict[str, Any], expected: tuple[str, ...]) -> None:
    query = Query(where=where)
    found = [name for name, value in VALUES.items() if query.matches(record(Key("f", "t", name), value))]
    assert tuple(found) == expected


@pytest.mark.parametrize("payload", [b"", b"{", b'{"a": 1} x', b'{"a": "\xff"}', b"NaN"])
def test_what_is_no_json_has_no_fields(payload: bytes) -> None:
    assert not matches_fields(payload, {"a": 1})


@given(TEXTS)
def test_a_cursor_by_task_id_gives_its_place_back(task_id: str) -> None:
    sort_key = Ref("result", Key("f", "t", task_id)).sort_key
    assert load_cursor(dump_cursor(sort_key)) == sort_key
    assert dump_cursor(sort_key).isascii()
    assert dump_cursor(sort_key).isprintable()


@pytest.mark.parametrize("cursor", ["", "x", "1", "0" * 64, "0" * 63 + ".", "0" * 64 + ".*", "0" * 64 + ".YQ"])
def test_another_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(StorageError, match="is not a cursor of a listing by task id"):
        load_cursor(cursor)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"pattern": "*" * 1001}, InvalidKeyError, "pattern has 1001 characters; the maximum is 1000"),
        ({"pattern": 1}, InvalidKeyError, "pattern must be a string, not int"),
        ({"pattern": "\ud800"}, InvalidKeyError, "lone surrogate"),
        ({"where": {"": 1}}, InvalidKeyError, "'' is not a path"),
        ({"where": {"a..b": 1}}, InvalidKeyError, r"'a\.\.b' is not a path"),
        ({"where": {"a.": 1}}, InvalidKeyError, r"'a\.' is not a path"),
        ({"where": {".".join("a" * 17): 1}}, InvalidKeyError, "up to 16 non-empty keys"),
        ({"where": {1: 1}}, InvalidKeyError, "a field in where must be a string"),
        ({"where": {"a\ud800": 1}}, InvalidKeyError, "lone surrogate"),
        ({"where": {"a": "\ud800"}}, InvalidKeyError, "lone surrogate"),
        ({"where": {"a": float("nan")}}, ValueError, "can't be nan"),
        ({"where": {"a": 2**63}}, ValueError, "64 bits"),
        ({"where": {"a": [1]}}, ValueError, "not list"),
        ({"where": {"a": b"1"}}, ValueError, "not bytes"),
        ({"where": {str(number): 1 for number in range(17)}}, ValueError, "17 fields; the maximum is 16"),
        ({"order": "name"}, ValueError, "order must be 'stored' or 'task_id', not 'name'"),
        ({"skip": -1}, ValueError, "skip must be at least 0, not -1"),
    ],
)
def test_what_can_not_be_asked_is_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Query(**fields)


def test_a_query_can_be_hashed() -> None:
    assert len({Query(where={"a": 1}), Query(where={"a": 1}), Query(pattern="a")}) == 2
