"""``serializer``, ``compression`` and ``encryption`` of a storage."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flowstore import ConfigurationError, FlowStore, Key
from flowstore.config.json_schema import json_schema
from flowstore.config.loading import load
from flowstore.encoding.codec import Compression, Encryption

KEY = base64.b64encode(b"hunter2-" * 4).decode()
OTHER = base64.urlsafe_b64encode(bytes([255, 254] * 16)).decode()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flowstore.yaml"
    head = "storages:\n  - name: Results\n    classname: MemoryStorage\n"
    path.write_text(head + "".join(f"    {line}\n" for line in text.splitlines()), encoding="utf-8")
    return path


def entry(tmp_path: Path, text: str, **environ: str) -> Any:
    path = written(tmp_path, text)
    jsonschema.Draft7Validator(json_schema()).validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    return load(path, environ=environ).storages["Results"]


def refused(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, text), environ=environ)
    message = str(caught.value)
    assert "hunter2" not in message
    assert KEY not in message
    return message


def test_json_is_the_default(tmp_path: Path) -> None:
    found = entry(tmp_path, "")
    assert (found.serializer, found.compression, found.encryption, found.strict) == ("json", None, None, False)


@pytest.mark.parametrize("name", ["json", "msgpack", "pickle"])
def test_a_serializer_is_named(name: str, tmp_path: Path) -> None:
    assert entry(tmp_path, f"serializer: {name}").serializer == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("compression: zstd", Compression("zstd")),
        ("compression: gzip", Compression("gzip")),
        ("compression: {codec: zstd, level: 19, min_size: 0}", Compression("zstd", 19, 0)),
        ("compression: {codec: gzip}", Compression("gzip")),
        ("compression: '{CODEC}'", Compression("gzip")),
        ("compression: {codec: '{CODEC}', level: '{LEVEL}'}", Compression("gzip", 7)),
        ("compression: null", None),
    ],
)
def test_compression_is_a_name_or_a_mapping(text: str, expected: Compression | None, tmp_path: Path) -> None:
    assert entry(tmp_path, text, CODEC="gzip", LEVEL="7").compression == expected


def test_keys_are_read_from_variables_and_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n", encoding="ascii")
    text = "encryption:\n  keys:\n    old: {file: key}\n    new: '{FLOW_KEY}'\n  active: new\n  required: true"
    found = entry(tmp_path, text, FLOW_KEY=OTHER).encryption
    assert found == Encryption({"old": b"hunter2-" * 4, "new": bytes([255, 254] * 16)}, "new", required=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serializer: msgpak", "storages.0.serializer: must be one of json, msgpack, pickle. Did you mean 'msgpack'?"),
        ("serializer: yaml", "must be one of json, msgpack, pickle"),
        ("compression: zst", "storages.0.compression: must be one of zstd, gzip, or a mapping"),
        ("compression: lz4", "must be one of zstd, gzip"),
        ("compression: [zstd]", "must be one of zstd, gzip"),
        ("compression: {codec: lz4}", "storages.0.compression.codec: must be one of zstd, gzip"),
        ("compression: {level: 3}", "the key 'codec' is missing"),
        ("compression: {codec: zstd, lvel: 3}", "unknown key. Did you mean 'level'?"),
        ("compression: {codec: zstd, level: 20}", "storages.0.compression.level: must be 1 to 19 for zstd"),
        ("compression: {codec: gzip, level: 0}", "must be 1 to 9 for gzip"),
        ("compression: {codec: gzip, level: true}", "must be a number, not a boolean"),
        ("compression: {codec: gzip, min_size: -1}", "should be greater than or equal to 0"),
        ("encryption: {}", "the key 'keys' is missing"),
        ("encryption: aes", "must be a mapping"),
        (f"encryption: {{keys: {{one: {KEY}}}}}", "the key 'active' is missing"),
        (
            f"encryption: {{keys: {{one: {KEY}}}, active: on}}",
            "storages.0.encryption.active: must be a string. Quote it",
        ),
        (f"encryption: {{keys: {{one: {KEY}}}, active: noe}}", "'noe' is not one of the keys. Did you mean 'one'?"),
        (f"encryption: {{keys: {{1: {KEY}}}, active: one}}", "a key's id must be a string. Quote it."),
        (f"encryption: {{keys: [{KEY}], active: one}}", "keys: must be a mapping of ids to keys"),
        ("encryption: {keys: {}, active: one}", "must be a mapping of ids to keys. Make one with: openssl rand"),
        (
            "encryption: {keys: {one: hunter2}, active: one}",
            "keys.one: must be 32 bytes, as base64 text or {file: path}",
        ),
        ("encryption: {keys: {one: aHVudGVyMg==}, active: one}", "must be 32 bytes, not 7, as base64 text"),
        ("encryption: {keys: {one: 12}, active: one}", "must be 32 bytes, as base64"),
        ("encryption: {keys: {one: [a]}, active: one}", "must be 32 bytes, as base64"),
        ("encryption: {keys: {one: hünter2}, active: one}", "must be 32 bytes, as base64"),
        ("encryption: {keys: {one: {file: gone}}, active: one}", "can't read the key's file: No such file"),
        ("encryption: {keys: {one: {file: [gone]}}, active: one}", "can't read the key's file"),
        ("encryption: {keys: {one: '{NOT_SET}'}, active: one}", "the variable NOT_SET is not set"),
        ("encryption: {keys: {one: '{SHORT}'}, active: one}", "must be 32 bytes, not 7"),
    ],
)
def test_mistakes_are_reported_without_secrets(text: str, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, text, SHORT=base64.b64encode(b"hunter2").decode())


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = (
        "serializer: x\ncompression: {codec: gzip, level: 99}\n"
        f"encryption:\n  keys:\n    one: {KEY}\n    two: short\n  active: three"
    )
    message = refused(tmp_path, text)
    assert message.startswith("4 mistakes")
    assert "      active: three\n" in message


def test_keys_are_masked_where_the_yaml_is_broken(tmp_path: Path) -> None:
    refused(tmp_path, f"encryption:\n  keys:\n    one: {KEY}: ]")
    refused(tmp_path, f"encryption:\n  keys: {{one: {KEY}, two: ]")


def test_keys_are_not_shown_by_repr(tmp_path: Path) -> None:
    configuration = load(written(tmp_path, f"encryption: {{keys: {{one: {KEY}}}, active: one}}"))
    assert "hunter2" not in repr(configuration)
    assert KEY not in repr(configuration)


def test_a_key_that_is_written_out_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY, encoding="ascii")
    text = f"encryption:\n  keys:\n    one: {KEY}\n    two: '{{FLOW_KEY}}'\n    three: {{file: key}}\n  active: one"
    warnings = load(written(tmp_path, text), environ={"FLOW_KEY": KEY}).warnings
    assert [(each.path, each.message) for each in warnings] == [
        ("storages.0.encryption.keys.one", "a secret in plain text")
    ]
    assert KEY not in str(warnings[0])


def test_overrides_reach_them(tmp_path: Path) -> None:
    path = written(tmp_path, "compression: gzip")
    configuration = load(path, environ={"FLOWSTORE_STORAGES__RESULTS__SERIALIZER": "msgpack"})
    assert configuration.storages["Results"].serializer == "msgpack"
    assert load(path, overrides={"storages.Results.compression": "zstd"}).storages[
        "Results"
    ].compression == Compression("zstd")


@pytest.mark.parametrize(
    ("module", "text", "extra"),
    [
        ("msgpack", "serializer: msgpack", "msgpack"),
        ("zstandard", "compression: zstd", "zstd"),
        ("zstandard", "compression: {codec: zstd}", "zstd"),
        ("cryptography", f"encryption: {{keys: {{one: {KEY}}}, active: one}}", "crypto"),
    ],
)
def test_a_missing_package_is_reported_with_its_extra(module: str, text: str, extra: str, tmp_path: Path) -> None:
    # In a process of its own, in which the package can't be found.
    code = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == {module!r} else find(name, package)
from flowstore import ConfigurationError, FlowStore, Key
try:
    FlowStore(sys.argv[1])
except ConfigurationError as exc:
    print(exc)
"""
    path = written(tmp_path, text)
    printed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert f"needs {module}, which is not installed. Run: pip install 'flowstore[{extra}]'" in printed


def test_reading_a_configuration_loads_none_of_the_packages(tmp_path: Path) -> None:
    text = f"serializer: msgpack\ncompression: zstd\nencryption: {{keys: {{one: {KEY}}}, active: one}}"
    code = (
        "import sys; from flowstore import FlowStore; FlowStore(sys.argv[1]);"
        "print({'msgpack', 'zstandard', 'cryptography', 'pyarrow', 'pandas'} & set(sys.modules))"
    )
    path = written(tmp_path, text)
    printed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"


def test_a_configured_storage_uses_them(tmp_path: Path) -> None:
    text = f"compression: {{codec: gzip, min_size: 0}}\nencryption: {{keys: {{one: {KEY}}}, active: one}}"
    store = FlowStore(written(tmp_path, f"serializer: msgpack\n{text}"))
    storage: Any = store.storage("Results")
    storage.store("flow", "task", "id", "x" * 100)
    found = storage.get(Key("flow", "task", "id"))
    assert found.headers["serializer"] == "msgpack"
    assert found.headers["codecs"] == ["gzip", "aes-256-gcm"]
    assert storage.retrieve("flow", "task", "id") == "x" * 100
    store.close()


def test_a_storage_that_works_on_an_encrypted_one_must_encrypt_too() -> None:
    encryption = {"keys": {"one": KEY}, "active": "one"}
    private = {"name": "Private", "classname": "MemoryStorage", "encryption": encryption}
    router = {
        "name": "Router",
        "classname": "RoutingStorage",
        "configuration": {"storages": {"main": "Private"}, "routes": [], "default": "main"},
    }
    with pytest.raises(
        ConfigurationError, match="storage 'Private' encrypts, but what 'Router' stores in it would not be"
    ):
        load({"storages": [private, router]})
    assert load({"storages": [private, {**router, "encryption": encryption}]}).storages["Router"].encryption
