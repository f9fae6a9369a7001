"""Every serializer, compression and encryption, and all of them together; forged and damaged records are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from flowstore import ConfigurationError, CorruptError, Key, Record, Ref
from flowstore.encoding.codec import Compression, Encryption
from flowstore.encoding.codec.compression import MAX_SIZE
from flowstore.encoding.pipeline import Pipeline
from flowstore.record import RESULT
from tests.celery.sites import ROOT

REF = Ref(RESULT, Key("flow", "task", "id"))
RING = {"old": b"o" * 32, "new": b"n" * 32}
LONG = {"rows": [{"sku": "apple", "price": 3.5}] * 100}

COMPRESSIONS = [None, Compression("zstd", min_size=0), Compression("gzip", 9, min_size=0)]
ENCRYPTIONS = [None, Encryption(RING, "new"), Encryption(RING, "old", required=True)]

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def with_headers(record: Record, **headers: Any) -> Record:
    return replace(record, headers={**record.headers, **headers})


def without(headers: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in headers.items() if key != name}


def resealed(record: Record, payload: bytes, **headers: Any) -> Record:
    """Return a record as somebody forges it who can write to the database: with a digest that fits."""
    forged = Pipeline().encode_bytes(record.ref, payload)
    return replace(
        forged,
        headers={
            **record.headers,
            "size": forged.headers["size"],
            "digest": forged.headers["digest"],
            **headers,
        },
    )


@given(
    value=plain | st.tuples(plain, st.frozensets(st.binary())),
    serializer=st.sampled_from(["json", "msgpack", "pickle"]),
    compression=st.sampled_from(COMPRESSIONS),
    encryption=st.sampled_from(ENCRYPTIONS),
)
def test_every_combination_returns_the_value(value: Any, serializer: Any, compression: Any, encryption: Any) -> None:
    pipeline = Pipeline(serializer, compression=compression, encryption=encryption)
    record = pipeline.encode(REF, value)
    assert pipeline.decode(record) == value
    assert type(pipeline.decode(record)) is type(value)
    assert record.headers["size"] == len(record.payload)
    assert ("codecs" in record.headers) == (encryption is not None or record.headers.get("full_size") is not None)


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_written_is_read_by_a_storage_that_names_nothing(serializer: Any, compression: Any) -> None:
    record = Pipeline(serializer, compression=compression).encode(REF, LONG)
    assert Pipeline().decode(record) == LONG


def test_without_codecs_json_stays_readable() -> None:
    record = Pipeline(compression=Compression("zstd")).encode(REF, {"a": 1})
    assert record.payload == b'{"a":1}'
    assert record.is_json
    assert "codecs" not in record.headers


def test_headers_tell_the_codecs() -> None:
    record = Pipeline(compression=Compression("zstd"), encryption=Encryption(RING, "new")).encode(REF, LONG)
    headers = record.headers
    assert headers["codecs"] == ["zstd", "aes-256-gcm"]
    assert (headers["key_id"], headers["serializer"]) == ("new", "json")
    assert headers["full_size"] > len(record.payload)
    assert not record.is_json


def test_bytes_pass_through_the_codecs_and_no_serializer() -> None:
    pipeline = Pipeline("msgpack", encryption=Encryption(RING, "new"))
    record = pipeline.encode_bytes(REF, b"\x00piece")
    assert b"piece" not in record.payload
    assert pipeline.decode(record) == b"\x00piece"


# Compression


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_equal_values_are_compressed_to_equal_bytes(codec: Any) -> None:
    first, second = (Pipeline(compression=Compression(codec)).encode(REF, LONG) for _ in range(2))
    assert first.payload == second.payload
    assert len(first.payload) * 10 < first.headers["full_size"]


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_what_would_not_get_smaller_is_stored_as_it_is(codec: Any) -> None:
    data = os.urandom(5000)
    record = Pipeline(compression=Compression(codec)).encode_bytes(REF, data)
    assert record.payload == data


def test_gzip_is_what_any_tool_reads_and_zstd_too() -> None:
    text = Pipeline().encode(REF, LONG).payload
    assert zlib.decompress(Pipeline(compression=Compression("gzip")).encode(REF, LONG).payload, wbits=31) == text
    assert zstandard.decompress(Pipeline(compression=Compression("zstd")).encode(REF, LONG).payload) == text


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_a_value_that_grows_beyond_the_size_named_is_refused(codec: Any) -> None:
    record = Pipeline(compression=Compression(codec)).encode_bytes(REF, bytes(10**6))
    for size in (0, 10, 10**6 - 1, 10**6 + 1):
        with pytest.raises(CorruptError, match="should decompress to"):
            Pipeline().decode(with_headers(record, full_size=size))


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
@pytest.mark.parametrize("named", [1000, MAX_SIZE])
def test_a_bomb_takes_no_more_memory_than_a_payload_may_have(codec: str, named: int) -> None:
    # In a process of its own, whose memory at most can be measured.
    command = [sys.executable, "-c", BOMB, codec, str(named)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    reason, grown = printed.stdout.rsplit("|", 1)
    assert "should decompress to" in reason
    assert int(grown) < 1.1 * named + 32 * 2**20


BOMB = """
import sys, zlib
import zstandard
from dataclasses import replace
from flowstore import CorruptError, Key, Ref
from flowstore.encoding.pipeline import Pipeline
from tests.peak import peak

codec, named = sys.argv[1], int(sys.argv[2])
bomb = zstandard.ZstdCompressor().compressobj() if codec == "zstd" else zlib.compressobj(1, wbits=31)
piece = bytes(2**20)
payload = b"".join([bomb.compress(piece) for _ in range(300)] + [bomb.flush()])
assert len(payload) < 2**22
record = Pipeline().encode_bytes(Ref("result", Key("f", "t", "1")), payload)
record = replace(record, headers={**record.headers, "codecs": [codec], "full_size": named})
before = peak()
try:
    Pipeline().decode(record)
except CorruptError as exc:
    print(exc, peak() - before, sep="|")
"""


@pytest.mark.parametrize("size", [MAX_SIZE + 1, -1, None, "10", True, 1.5, [1]])
def test_a_size_that_nothing_has_is_refused(size: Any) -> None:
    record = Pipeline(compression=Compression("zstd")).encode(REF, LONG)
    with pytest.raises(CorruptError, match="claims to decompress"):
        Pipeline().decode(with_headers(record, full_size=size))


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
@given(data=st.data())
def test_damaged_compressed_bytes_are_refused(codec: Any, data: st.DataObject) -> None:
    record = Pipeline(compression=Compression(codec, min_size=0)).encode(REF, LONG)
    cut = data.draw(st.integers(0, len(record.payload) - 1))
    with pytest.raises(CorruptError):
        Pipeline().decode(resealed(record, record.payload[:cut]))


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_a_damaged_record_does_not_disturb_the_next(codec: Any) -> None:
    record = Pipeline(compression=Compression(codec)).encode(REF, LONG)
    for payload in (b"", b"junk" * 10, record.payload[:-3], record.payload[:20]):
        with pytest.raises(CorruptError):
            Pipeline().decode(resealed(record, payload))
        assert Pipeline().decode(record) == LONG


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
@given(junk=st.binary(max_size=200))
def test_any_bytes_in_place_of_compressed_ones_are_refused(codec: Any, junk: bytes) -> None:
    record = Pipeline(compression=Compression(codec, min_size=0)).encode(REF, LONG)
    with pytest.raises(CorruptError):
        Pipeline().decode(resealed(record, junk))


@pytest.mark.parametrize(
    "names", [["lz4"], ["zstd", "gzip"], ["zstd", "zstd"], ["aes-256-gcm", "zstd"], "zstd", [], None, [1]]
)
def test_codecs_that_are_never_written_are_refused(names: Any) -> None:
    record = Pipeline(compression=Compression("zstd")).encode(REF, LONG)
    with pytest.raises(CorruptError):
        Pipeline(encryption=Encryption(RING, "new")).decode(with_headers(record, codecs=names))


@pytest.mark.parametrize(("codec", "level"), [("zstd", 0), ("zstd", 20), ("gzip", 10), ("gzip", 0), ("lz4", 1)])
def test_wrong_levels_and_codecs_are_refused(codec: Any, level: int) -> None:
    with pytest.raises(ConfigurationError):
        Compression(codec, level)


# Encryption


def test_nothing_of_the_value_is_left_and_equal_values_differ() -> None:
    pipeline = Pipeline(encryption=Encryption(RING, "new"))
    first, second = (pipeline.encode(REF, {"name": "a secret"}) for _ in range(2))
    assert b"secret" not in first.payload
    assert first.payload != second.payload
    assert first.headers["digest"] != second.headers["digest"]
    assert pipeline.same(first, second)
    assert not pipeline.same(first, pipeline.encode(REF, {"name": "other"}))


def test_an_error_leaves_its_type_in_the_headers_and_nothing_else() -> None:
    pipeline = Pipeline(encryption=Encryption(RING, "new"))
    facts = {"node_args": {"args": ["hunter2"]}, "error": "ValueError: hunter2"}
    record = pipeline.encode_error(REF, ValueError("hunter2"), facts)
    assert record.headers["error"] == "ValueError"
    assert "hunter2" not in str(record.headers)
    assert b"hunter2" not in record.payload
    assert pipeline.decode_error(record).failure.message == "hunter2"
    assert Pipeline().encode_error(REF, ValueError("x"), {"error": "ValueError: x"}).headers["error"] == "ValueError: x"


@pytest.mark.parametrize(
    "ref",
    [
        Ref("error", REF.key),
        Ref(RESULT, Key("flow2", "task", "id")),
        Ref(RESULT, Key("flow", "task2", "id")),
        Ref(RESULT, Key("flow", "task", "id2")),
        Ref(RESULT, Key("flowt", "ask", "id")),
        Ref(RESULT, REF.key, "name"),
    ],
)
def test_a_payload_that_was_moved_to_another_record_is_refused(ref: Ref) -> None:
    pipeline = Pipeline(encryption=Encryption(RING, "new"))
    record = pipeline.encode(REF, "A's result")
    with pytest.raises(CorruptError, match="can't be decrypted"):
        pipeline.decode(replace(record, ref=ref))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("serializer", "json-typed"),
        ("serializer", "pickle"),
        ("full_size", 1001),
        ("key_id", "old"),
        ("codecs", ["gzip", "aes-256-gcm"]),
        ("codecs", ["aes-256-gcm"]),
    ],
)
def test_exchanged_headers_are_refused(name: str, value: Any) -> None:
    pipeline = Pipeline("pickle", compression=Compression("zstd"), encryption=Encryption(RING, "new"))
    record = pipeline.encode(REF, LONG)
    with pytest.raises(CorruptError, match="can't be decrypted"):
        pipeline.decode(with_headers(record, **{name: value}))


@pytest.mark.parametrize("name", ["serializer", "full_size", "key_id", "codecs"])
def test_missing_headers_are_refused(name: str) -> None:
    pipeline = Pipeline(compression=Compression("zstd"), encryption=Encryption(RING, "new"))
    record = pipeline.encode(REF, LONG)
    with pytest.raises(CorruptError):
        pipeline.decode(replace(record, headers=without(record.headers, name)))


@given(data=st.data())
def test_a_flipped_bit_is_refused_whoever_mended_the_digest(data: st.DataObject) -> None:
    pipeline = Pipeline(encryption=Encryption(RING, "new"))
    record = pipeline.encode(REF, [1, 2, 3])
    damaged = bytearray(record.payload)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptError, match="can't be decrypted"):
        pipeline.decode(resealed(record, bytes(damaged)))


@pytest.mark.parametrize("length", [0, 1, 11, 12, 27, 28])
def test_a_cut_payload_is_refused(length: int) -> None:
    pipeline = Pipeline(encryption=Encryption(RING, "new"))
    record = pipeline.encode(REF, "text")
    with pytest.raises(CorruptError):
        pipeline.decode(resealed(record, record.payload[:length]))


def test_keys_are_rotated() -> None:
    before = Pipeline(encryption=Encryption({"old": RING["old"]}, "old"))
    after = Pipeline(encryption=Encryption(RING, "new"))
    record = before.encode(REF, "written before")
    assert after.decode(record) == "written before"
    again = after.encode(REF, "written after")
    assert again.headers["key_id"] == "new"
    with pytest.raises(CorruptError, match="with the key 'new', which its storage does not have"):
        before.decode(again)


def test_another_key_of_the_same_id_does_not_fit() -> None:
    record = Pipeline(encryption=Encryption({"k": b"1" * 32}, "k")).encode(REF, 1)
    with pytest.raises(CorruptError, match="can't be decrypted with the key 'k'"):
        Pipeline(encryption=Encryption({"k": b"2" * 32}, "k")).decode(record)


def test_a_storage_without_keys_says_which_is_needed() -> None:
    record = Pipeline(encryption=Encryption(RING, "old")).encode(REF, 1)
    with pytest.raises(CorruptError, match="encrypted with the key 'old'"):
        Pipeline().decode(record)


@pytest.mark.parametrize("key_id", [None, 1, ["old"], {"a": 1}, "gone"])
def test_any_other_key_id_is_refused(key_id: Any) -> None:
    pipeline = Pipeline(encryption=Encryption(RING, "old"))
    with pytest.raises(CorruptError):
        pipeline.decode(with_headers(pipeline.encode(REF, 1), key_id=key_id))


def test_what_is_not_encrypted_is_read_unless_it_must_be() -> None:
    record = Pipeline().encode(REF, "planted")
    assert Pipeline(encryption=Encryption(RING, "new")).decode(record) == "planted"
    for forged in (record, Pipeline(compression=Compression("gzip", min_size=0)).encode(REF, LONG)):
        with pytest.raises(CorruptError, match="is not encrypted"):
            Pipeline(encryption=Encryption(RING, "new", required=True)).decode(forged)


def test_keys_are_never_shown() -> None:
    encryption = Encryption({"k": b"hunter2-" * 4}, "k")
    assert "hunter2" not in repr(encryption)
    with pytest.raises(ConfigurationError, match="the key 'k' has 7 bytes, not 32") as caught:
        Encryption({"k": b"hunter2"}, "k")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="'gone' is not among the keys: k"):
        Encryption({"k": bytes(32)}, "gone")


def test_threads_share_a_pipeline() -> None:
    pipeline = Pipeline("msgpack", compression=Compression("zstd"), encryption=Encryption(RING, "new"))
    failures: list[BaseException] = []
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        value = {"number": number, **LONG}
        try:
            barrier.wait()
            for _ in range(50):
                assert pipeline.decode(pipeline.encode(REF, value)) == value
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_errors_are_not_pickled() -> None:
    pipeline = Pipeline("pickle")
    record = pipeline.encode_error(REF, ValueError("x"), {"node_args": {"args": [object()]}})
    assert record.headers["serializer"] == "json"
    assert Pipeline().decode_error(record).failure.message == "x"
