"""Records keep what they were given, and damage is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore import CorruptError, Key, Record, Ref, SerializationError
from flowstore.encoding.pipeline import decode, encode
from flowstore.record import JSON, RESULT

REF = Ref(RESULT, Key("flow", "task", "id"))


def with_headers(record: Record, **headers: Any) -> Record:
    return replace(record, headers={**record.headers, **headers})


def test_a_record_tells_about_its_value() -> None:
    record = encode(REF, {"a": [1]}, {"run_id": "r", "attempt": 2})
    assert record.payload == b'{"a":[1]}'
    assert (record.revision, record.run_id, record.headers["attempt"]) == (0, "r", 2)
    assert (record.headers["size"], record.headers["content_type"]) == (9, JSON)
    assert record.is_json


def test_the_value_is_not_changed_and_comes_back_new() -> None:
    value = {"a": [1, (2,)]}
    record = encode(REF, value)
    first = decode(record)
    first["a"].append(3)
    assert value == {"a": [1, (2,)]}
    assert decode(record) == {"a": [1, (2,)]}


def test_each_write_has_a_token_of_its_own_and_equal_values_one_digest() -> None:
    one, other = encode(REF, [1]), encode(REF, [1])
    assert one.headers["token"] != other.headers["token"]
    assert one.headers["digest"] == other.headers["digest"]
    assert encode(REF, [2]).headers["digest"] != one.headers["digest"]


def test_different_values_of_one_json_text_have_different_digests() -> None:
    # The text of the first, taken as plain JSON, is the second's.
    typed, plain = encode(REF, (1,)), encode(REF, [1])
    assert typed.headers["digest"] != plain.headers["digest"]


@given(st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    record = encode(REF, {"text": "some text", "number": 12345, "set": {1, 2}})
    position = data.draw(st.integers(0, len(record.payload) - 1))
    damaged = bytearray(record.payload)
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptError, match="digest"):
        decode(replace(record, payload=bytes(damaged)))


@pytest.mark.parametrize("payload", [b"", b"[1]"[:2], b"[1] ", b"null"])
def test_a_cut_or_replaced_payload_is_noticed(payload: bytes) -> None:
    with pytest.raises(CorruptError):
        decode(replace(encode(REF, [1]), payload=payload))


@pytest.mark.parametrize("name", ["format", "digest", "serializer"])
def test_a_missing_header_is_noticed(name: str) -> None:
    record = encode(REF, [1])
    headers = {key: value for key, value in record.headers.items() if key != name}
    with pytest.raises(CorruptError):
        decode(replace(record, headers=headers))


def test_a_newer_format_is_refused_with_its_number() -> None:
    with pytest.raises(CorruptError, match="format 2"):
        decode(with_headers(encode(REF, [1]), format=2))


def test_unknown_headers_do_not_disturb() -> None:
    assert decode(with_headers(encode(REF, [1]), shape="new")) == [1]


def test_a_refused_value_makes_no_record() -> None:
    with pytest.raises(SerializationError):
        encode(REF, object())
