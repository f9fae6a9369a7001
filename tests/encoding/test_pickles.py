"""Pickles are written and loaded where a storage names them, and nowhere else."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flowstore import CorruptError, FlowStore, Key, Record, Ref, SerializationError
from flowstore.encoding.codec import Compression, Encryption
from flowstore.encoding.pipeline import Pipeline
from flowstore.record import RESULT
from flowstore.storages import FileStorage

REF = Ref(RESULT, Key("flow", "task", "id"))


@dataclass
class Row:
    name: str


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def planted(path: Path, serializer: str = "pickle") -> Record:
    record = Pipeline().encode_bytes(REF, pickle.dumps(Canary(path)))
    return replace(record, headers={**record.headers, "serializer": serializer})


def test_any_object_comes_back_where_pickle_is_named() -> None:
    record = Pipeline("pickle").encode(REF, [Row("x")])
    assert record.headers["serializer"] == "pickle"
    assert Pipeline("pickle").decode(record) == [Row("x")]


def test_plain_json_stays_json() -> None:
    record = Pipeline("pickle").encode(REF, {"a": [1]})
    assert record.payload == b'{"a":[1]}'
    assert Pipeline().decode(record) == {"a": [1]}


def test_what_has_no_json_form_and_no_pickle_is_refused() -> None:
    with pytest.raises(SerializationError, match="can't be pickled"):
        Pipeline("pickle").encode(REF, (row for row in [1]))


def test_what_contains_itself_comes_back_so() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    back = Pipeline("pickle").decode(Pipeline("pickle").encode(REF, ring))
    assert back[1] is back


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(),
        Pipeline("msgpack"),
        Pipeline(compression=Compression("gzip")),
        Pipeline(encryption=Encryption({"k": bytes(32)}, "k")),
    ],
)
def test_a_planted_pickle_is_not_loaded(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="is pickled, and only a storage with 'serializer: pickle'"):
        pipeline.decode(planted(tmp_path / "canary"))
    for name in ("json", "json-typed", "msgpack", "msgpack-typed", "arrow-pandas", "arrow-table", "Pickle", "cPickle"):
        with pytest.raises(CorruptError):
            pipeline.decode(planted(tmp_path / "canary", name))
    with pytest.raises(CorruptError):
        pipeline.decode_error(planted(tmp_path / "canary"))
    assert not (tmp_path / "canary").exists()


def test_no_pickle_is_loaded_to_be_shown(tmp_path: Path) -> None:
    with pytest.raises(SerializationError, match="is not loaded to be shown"):
        Pipeline("pickle").as_json(planted(tmp_path / "canary"))
    assert not (tmp_path / "canary").exists()


def test_the_canary_would_be_noticed(tmp_path: Path) -> None:
    Pipeline("pickle").decode(planted(tmp_path / "canary"))
    assert (tmp_path / "canary").exists()


def test_a_planted_pickle_is_not_loaded_from_a_storage(tmp_path: Path) -> None:
    storage = FileStorage(path=str(tmp_path / "files"))
    storage.connect()
    storage.put(planted(tmp_path / "canary"))
    storage.disconnect()
    for serializer, loaded in (("json", False), ("msgpack", False), ("pickle", True)):
        entry = {
            "name": "Files",
            "classname": "FileStorage",
            "serializer": serializer,
            "configuration": {"path": str(tmp_path / "files")},
        }
        store = FlowStore({"storages": [entry], "global": {"default_storage": "Files"}})
        if loaded:
            store.retrieve("flow", "task", "id")
        else:
            with pytest.raises(CorruptError, match="pickle"):
                store.retrieve("flow", "task", "id")
        store.close()
        assert (tmp_path / "canary").exists() == loaded
