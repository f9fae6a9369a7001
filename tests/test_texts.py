"""Secrets in texts are found by their names, and masked."""

from __future__ import annotations

import pytest

from flowstore.texts import is_secret_name, mask, spans_in_text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "DB_PASSWORD",
        "passwd",
        "token",
        "api_key",
        "aws_secret_access_key",
        "accessKey",
        "key",
        "keys",
        "pwd",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["host", "keyspace", "key_prefix", "monkey", "bypass", "classname", 7, None])
def test_names_of_other_things(name: object) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://u:pw@h/db", "postgres://u:***@h/db"),
        ("redis://:p/w:x@h", "redis://:***@h"),
        ("amqp://u:p@w@h", "amqp://u:***@h"),
        ("http://h:80/path", "http://h:80/path"),
        ("host=h password=pw port=1", "host=h password=*** port=1"),
        ("http://h/?access_key=abc&x=1", "http://h/?access_key=***&x=1"),
        ("nothing here", "nothing here"),
    ],
)
def test_secrets_inside_a_text(text: str, masked: str) -> None:
    assert mask(text, list(spans_in_text(text)))[0] == masked


def test_masking_moves_the_column() -> None:
    line = "{pw: secret, x: 1}"
    assert mask(line, [(5, 11)], 14) == ("{pw: ***, x: 1}", 11)
    assert mask(line, [(5, 11)], 8) == ("{pw: ***, x: 1}", 6)
    assert mask(line, [(5, 11)], 2) == ("{pw: ***, x: 1}", 2)
    assert mask(line, [(5, 9), (7, 11)], 14) == ("{pw: ***, x: 1}", 11)
