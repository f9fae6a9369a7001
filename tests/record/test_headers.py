"""The types of the known headers: what is none of them is refused where it is read, and where it is written."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.errors import CorruptError, SerializationError
from flowstore.record import RESULT, Key, Record, Ref
from flowstore.record.headers import KNOWN, check_headers, is_generation, mistake_in
from flowstore.storage.payloads import new_generation
from flowstore.storages import MemoryStorage
from flowstore.storages.shared.headers import dump_headers, load_headers

REF = Ref(RESULT, Key("f", "t", "1"))
GENERATION = "0123456789abcdef" * 2
RIGHT: dict[str, Any] = {
    "format": 1, "serializer": "json", "content_type": "application/json", "size": 0, "digest": "d", "token": "t",
    "codecs": ["zstd", "aes-256-gcm"], "full_size": 9, "key_id": "k", "salt": "s", "blob": True,
    "content": {"generation": GENERATION, "pieces": 1, "size": 5, "content_type": None},
    "generations": {GENERATION: 3}, "of": ["result", "f", "t", "1", ""],
    "stored_at": 1, "expires_at": 2.5, "published_at": None, "started_at": 0.5, "finished_at": 1.5,
    "state": "SUCCESS", "error": None, "run_id": "r", "parent_run_id": "p", "attempt": 2, "worker": "w",
    "parents": [["a", "b"]], "joins": "j", "group_id": "g", "group_index": 0, "chord_id": "c", "root_id": "r",
    "parent_id": "p", "celery_task": "c", "event": "e", "sequence": 1, "owner": "o",
}  # fmt: skip
NO_CONTENT: tuple[Any, ...] = (
    5, None, [], {}, {**RIGHT["content"], "generation": "x/../../etc/passwd"},
    {**RIGHT["content"], "generation": GENERATION.upper()}, {**RIGHT["content"], "generation": GENERATION + "\n"},
    {**RIGHT["content"], "generation": None}, {**RIGHT["content"], "pieces": 10**9},
    {**RIGHT["content"], "pieces": -1}, {**RIGHT["content"], "pieces": True}, {**RIGHT["content"], "size": "x"},
    {**RIGHT["content"], "size": -1}, {**RIGHT["content"], "content_type": 5},
)  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ("run_id", "state", "worker", "error", "joins", "group_id", "owner", "serializer"), (5, 1.5, True, [], {})
    ),
    **dict.fromkeys(("expires_at", "started_at"), ("soon", [], {}, True)),
    "stored_at": ("x", None, [], True),
    **dict.fromkeys(("attempt", "size", "format", "sequence", "full_size"), ("x", 1.5, None, True, [])),
    "event": (None, 5),
    "group_index": ("x", 1.5),
    "parents": (5, None, "ab", [[1]], [[1, 2]], [["a"]], ["ab"], {"a": "b"}),
    "codecs": (5, None, "zstd", [["zstd"]], {"zstd": 1}),
    "of": (5, None, [], ["a", "b", "c", "d"], ["a", "b", "c", "d", 5]),
    "blob": (5, None, False, "yes", []),
    "content": NO_CONTENT,
    "generations": (
        5,
        None,
        [],
        {"../x": 1},
        {GENERATION: 10**9},
        {GENERATION: "x"},
        {GENERATION: None},
        {GENERATION: -1},
    ),
}
WRONG = [(name, value) for name, values in VALUES.items() for value in values]


def test_every_known_header_has_its_types() -> None:
    assert set(RIGHT) == set(KNOWN)
    assert mistake_in(RIGHT) is None
    assert mistake_in({**RIGHT, "mine": {"any": ["thing"]}, "": None}) is None
    assert load_headers(dump_headers(Record(REF, b"", RIGHT)), REF) == RIGHT


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
def test_a_known_header_of_another_type_is_refused(name: str, value: Any) -> None:
    headers = {**RIGHT, name: value}
    with pytest.raises(CorruptError, match=rf"result 'f' / 't' / '1' .*'{name}'"):
        load_headers(orjson.dumps(headers), REF)
    storage = MemoryStorage()
    with pytest.raises(SerializationError, match=f"'{name}'"):
        storage._put(Record(REF, b"", headers), None, 0.0)
    assert not storage._entries, "what can't be read again is not stored"


def test_a_blob_has_a_size_and_a_digest() -> None:
    for missing in ("size", "digest"):
        assert mistake_in({name: value for name, value in RIGHT.items() if name != missing}) is not None


def test_a_newer_format_is_named() -> None:
    with pytest.raises(CorruptError, match="record format 2, and this version of flowstore reads 1"):
        check_headers({"format": 2, "attempt": {"number": 1}}, REF)
    check_headers({"format": 2, "attempt": 1}, REF)


def test_what_json_makes_the_same_of_may_be_stored() -> None:
    class Name(str): ...

    headers = {"parents": (("a", "b"),), "state": Name("SUCCESS"), "codecs": ("zstd",)}
    assert load_headers(dump_headers(Record(REF, b"", headers)), REF) == {
        "parents": [["a", "b"]], "state": "SUCCESS", "codecs": ["zstd"],
    }  # fmt: skip


def test_generations() -> None:
    assert all(is_generation(new_generation()) for _ in range(10))
    for name in ("", "x" * 32, GENERATION[:-1], GENERATION + "0", f"../{GENERATION[3:]}", None, 5, GENERATION.encode()):
        assert not is_generation(name)


NAMES = sorted({"generation", "pieces", *KNOWN})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.sampled_from(NAMES), inner),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), JSON, max_size=8))
def test_any_headers_are_read_or_refused(headers: dict[str, Any]) -> None:
    with suppress(CorruptError):
        assert load_headers(orjson.dumps(headers), REF) == headers
    assert len(mistake_in(headers) or "") < 300
