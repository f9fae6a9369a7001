"""A few bytes in a database never take gigabytes of memory when they are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowstore import FlowStore, Key
from flowstore.encoding.codec import DEFAULT_DECODE_LIMIT, Compression
from flowstore.encoding.codec.compression import compress
from flowstore.encoding.codec.memory import MemoryLimit
from flowstore.encoding.pipeline import Pipeline
from flowstore.errors import ConfigurationError, CorruptError, SerializationError
from flowstore.record import RESULT, Record, Ref
from tests.celery.sites import ROOT

REF = Ref(RESULT, Key("flow", "task", "1"))
ZSTD = Compression("zstd")
LIMIT = 2**20
BOMBS = {
    "empty lists": ("json", b"[" + b"[]," * 100_000 + b"0]"),
    "empty dicts": ("json", b"[" + b"{}," * 100_000 + b"0]"),
    "dicts of one": ("json", b"[" + b'{"":0},' * 100_000 + b"0]"),
    "numbers": ("json", b"[" + b"0.5," * 100_000 + b"0]"),
    "texts": ("json", b"[" + b'"ab",' * 100_000 + b"0]"),
    "marked": ("json-typed", b'{"$type":"tuple","value":[' + b"[]," * 100_000 + b"0]}"),
    "msgpack, empty lists": ("msgpack", b"\xdd\x00\x01\x86\xa0" + b"\x90" * 100_000),
    "msgpack, empty dicts": ("msgpack", b"\xdd\x00\x01\x86\xa0" + b"\x80" * 100_000),
    "msgpack, texts": ("msgpack-typed", b"\xdd\x00\x01\x86\xa0" + b"\xa2ab" * 100_000),
}


def forged(serializer: str, payload: bytes, codec: Any = "zstd") -> Record:
    """Return a record as somebody else may have written it into the database."""
    packed = compress(payload, Compression(codec))
    assert packed is not None
    facts = {"serializer": serializer, "codecs": [codec], "full_size": len(payload)}
    return Pipeline().encode_bytes(REF, packed, facts)


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
@pytest.mark.parametrize("name", BOMBS)
def test_what_would_take_too_much_memory_is_not_read(name: str, codec: str) -> None:
    record = forged(*BOMBS[name], codec)
    assert len(record.payload) < 3000
    with pytest.raises(CorruptError, match="decode_limit"):
        Pipeline(decode_limit=LIMIT).decode(record)
    Pipeline().decode(record)  # by default it is little


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_what_is_heavy_is_stored_as_it_is_and_always_read(serializer: Any) -> None:
    value: list[list[int]] = [[] for _ in range(100_000)]
    pipeline = Pipeline(serializer, compression=ZSTD, decode_limit=LIMIT)
    record = pipeline.encode(REF, value)
    assert "codecs" not in record.headers
    assert pipeline.decode(record) == value
    light = pipeline.encode(REF, ["x" * 1000] * 100)
    assert light.headers["codecs"] == ["zstd"]
    assert pipeline.decode(light) == ["x" * 1000] * 100


def test_the_limit_is_a_key_of_a_storage() -> None:
    record = forged(*BOMBS["empty lists"])
    for limit, readable in ((None, True), (LIMIT, False), (f"{DEFAULT_DECODE_LIMIT}", True)):
        entry = {"name": "S", "classname": "MemoryStorage", "decode_limit": limit}
        store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
        storage: Any = store.storage("S")
        storage.put(record)
        if readable:
            assert len(store.retrieve("flow", "task", "1")) == 100_001
        else:
            with pytest.raises(CorruptError, match="decode_limit"):
                store.retrieve("flow", "task", "1")
    with pytest.raises(ConfigurationError, match="decode_limit"):
        FlowStore({"storages": [{"name": "S", "classname": "MemoryStorage", "decode_limit": 0}]})
    with pytest.raises(ConfigurationError, match="more than 0"):
        MemoryLimit(0)


@pytest.mark.parametrize("name", BOMBS)
def test_reading_takes_about_what_is_expected_at_most(name: str, tmp_path: Path) -> None:
    """The estimate is of the right size: what is told to fit does, by half as much again."""
    serializer, payload = BOMBS[name]
    (tmp_path / "payload").write_bytes(payload)
    source = (
        "from flowstore.encoding.serialize import loads\n"
        "from tests.peak import peak\n"
        "import msgpack\n"
        f"payload = open({str(tmp_path / 'payload')!r}, 'rb').read()\n"
        "loads(b'[[]]', 'json-typed')\n"
        "before = peak()\n"
        f"value = loads(payload, {serializer!r})\n"
        "print(peak() - before)\n"
    )
    took = int(
        subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
    expected = min(
        most for most in range(2**20, 2**26, 2**18) if not MemoryLimit(most).is_exceeded_by(payload, serializer)
    )
    assert took < expected * (3 if "typed" in serializer else 1.5) + 2**21


@pytest.mark.parametrize("classname", ["MemoryStorage", "FileStorage", "SqlStorage"])
def test_headers_are_bounded_when_they_are_written(classname: str, tmp_path: Path) -> None:
    configuration = {
        "MemoryStorage": {},
        "FileStorage": {"path": str(tmp_path / "files")},
        "SqlStorage": {"connection_string": f"sqlite:///{tmp_path}/db"},
    }[classname]
    entry = {"name": "S", "classname": classname, "configuration": configuration}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
    storage: Any = store.storage("S")
    with pytest.raises(SerializationError, match="the maximum is"):
        storage.put(Pipeline().encode(REF, 1, {"mine": "x" * 2**20}))
    assert store.retrieve("flow", "task", "1", default=None) is None
    storage.put(Pipeline().encode(REF, 1, {"mine": "x" * 2**19}))
    assert store.retrieve("flow", "task", "1") == 1


def test_headers_that_are_too_long_are_not_read() -> None:
    from flowstore.storages.shared.headers import load_headers

    with pytest.raises(CorruptError, match="the maximum is"):
        load_headers(b'{"a":[' + b"[]," * 2**20 + b"0]}", Ref(RESULT, Key("f", "t", "1")))


def test_a_first_line_that_is_too_long_is_not_read() -> None:
    from flowstore.storages.shared.envelope import read_envelope

    data = b'{"headers":[' + b"[]," * 2**23 + b"0]}\n"
    with pytest.raises(CorruptError, match="the maximum is"):
        read_envelope(data, len(data), True, "a file")
