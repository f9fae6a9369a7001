"""What is compressed, encrypted or in another form is printed all the same; what is pickled is not loaded for that."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flowstore import FlowStore
from tests.cli.helpers import Place

CONFIGURATION = """\
storages:
  - name: Coded
    classname: FileStorage
    serializer: msgpack
    compression: {codec: zstd, min_size: 0}
    encryption: {keys: {k: '{FLOW_KEY}'}, active: k}
    configuration: {path: '{DATA_DIR}/coded', durable: false}
  - name: Pickles
    classname: FileStorage
    serializer: pickle
    configuration: {path: '{DATA_DIR}/pickles', durable: false}
tasks:
  - {name: pickled, storage: Pickles}
global:
  default_storage: Coded
"""
KEY = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMi0="


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "flowstore.yaml").write_text(CONFIGURATION, encoding="utf-8")
    return Place(tmp_path)


@pytest.fixture
def store(place: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FLOW_KEY", KEY)
    monkeypatch.setenv("DATA_DIR", str(place.path))
    store = FlowStore(place.path / "flowstore.yaml")
    yield store
    store.close()


def test_a_coded_result_is_printed(place: Place, store: FlowStore) -> None:
    store.store("checkout", "price", "1", {"sku": "apple", "day": date(2024, 1, 2)})
    shown = {"sku": "apple", "day": {"$type": "date", "value": "2024-01-02"}}
    assert json.loads(place.fine("cat", "checkout", "price", "1")) == shown
    facts = json.loads(place.fine("show", "checkout", "price", "1", "-o", "json"))
    assert facts["result"] == shown
    assert facts["serializer"] == "msgpack-typed"
    assert '"sku": "apple"' in place.fine("show", "checkout", "price", "1")


def test_a_table_is_printed_as_rows(place: Place, store: FlowStore) -> None:
    store.store("checkout", "price", "1", pd.DataFrame({"sku": ["apple", "pear"], "price": [3, 4]}))
    rows = [{"sku": "apple", "price": 3}, {"sku": "pear", "price": 4}]
    assert json.loads(place.fine("cat", "checkout", "price", "1")) == rows


def test_a_coded_error_is_printed(place: Place, store: FlowStore) -> None:
    store.store_error({"args": [1]}, "checkout", "price", "1", ValueError("no such apple"))
    assert "no such apple" in place.fine("errors", "checkout")
    assert "no such apple" in place.fine("errors", "checkout", "--full")
    assert "no such apple" in place.fine("show", "checkout", "price", "1")
    files = [path.read_bytes() for path in (place.path / "coded").rglob("*") if path.is_file()]
    assert files
    assert not any(b"apple" in content for content in files)


def test_the_size_that_counts_is_the_decompressed_one(place: Place, store: FlowStore) -> None:
    store.store("checkout", "price", "1", "x" * 70_000)
    assert "too large" in place.fine("show", "checkout", "price", "1")
    assert len(place.fine("cat", "checkout", "price", "1")) == 70_003


def test_a_pickled_result_is_not_loaded_to_be_printed(place: Place, store: FlowStore) -> None:
    store.store("checkout", "pickled", "1", {"path": Path("x")})
    assert store.retrieve("checkout", "pickled", "1") == {"path": Path("x")}
    assert "not shown: the value is pickled" in place.fine("show", "checkout", "pickled", "1")
    assert "result" not in json.loads(place.fine("show", "checkout", "pickled", "1", "-o", "json"))
    ended = place.run("cat", "checkout", "pickled", "1")
    assert ended.returncode == 1
    assert "is not loaded to be shown" in ended.stderr


def test_a_wrong_key_is_told_by_its_id_and_shows_no_key(place: Place, store: FlowStore) -> None:
    store.store("checkout", "price", "1", 1)
    other = "AAAA" + KEY[4:]
    ended = place.run("cat", "checkout", "price", "1", FLOW_KEY=other)
    assert ended.returncode == 1
    assert "can't be decrypted with the key 'k'" in ended.stderr
    assert other not in ended.stderr
