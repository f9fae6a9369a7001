"""Records that an older version has written are read, rewritten and handed on without a loss."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pytest

from flowstore.copying import export_records, import_records
from flowstore.errors import FlowstoreError
from flowstore.record import ERROR, Key, Query
from flowstore.storage import RecordStorage
from tests.reliability.figures import Figures
from tests.reliability.golden import FROM_THE_FUTURE, READER, error, records
from tests.storages.storage_kit import opened

pytest_plugins = ("tests.storages.every_storage",)

FILES = sorted(Path(__file__).parent.glob("records-*.jsonl"))
CLAIM = "records of an older version: records, unreadable, changed by rewriting, lost on the way back"


def unreadable(storage: RecordStorage) -> int:
    """Return how many of the records are missing, can't be decoded or have other values."""
    wrong = 0
    for expected, value in records():
        ref = expected.ref
        try:
            found = READER.decode(storage.get(ref.key, ref.kind, ref.name))
        except FlowstoreError:
            wrong += 1
        else:
            wrong += (found, type(found)) != (value, type(value))
    return wrong


def lines(file: bytes) -> dict[tuple[str, ...], Any]:
    """Return the records of an export by what they are, without their revisions."""
    found = {}
    for line in map(orjson.loads, file.splitlines()):
        if "kind" in line:
            del line["revision"]
            found[tuple(line[name] for name in ("kind", "flow", "task", "id", "name"))] = line
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_reads_rewrites_and_hands_on(file: Path, storage: RecordStorage, kind: str, figures: Figures) -> None:
    with file.open("rb") as given:
        assert import_records(given, storage).copied == len(lines(file.read_bytes()))
    before = unreadable(storage)
    changed = 0
    for one in list(storage.records(Query())):
        rewritten = storage.put(one, if_revision=one.revision)
        found = storage.get(one.key, one.kind, one.ref.name)
        changed += found != rewritten or found.headers != one.headers or found.payload != one.payload
    with io.BytesIO() as out:
        export_records(storage, out)
        back = lines(out.getvalue())
    expected = lines(file.read_bytes())
    lost = sum(back.get(key) != line for key, line in expected.items())
    figures.note(CLAIM, kind, records=len(expected), unreadable=before, changed=changed, lost=lost)
    assert (before, changed, lost, len(back)) == (0, 0, 0, len(expected))
    some = storage.get(Key("golden", "json", "plain"))
    assert {name: some.headers[name] for name in FROM_THE_FUTURE} == FROM_THE_FUTURE
    failure = READER.decode_error(storage.get(Key("golden", "errors", "1"), ERROR)).failure
    assert failure.type_name == "FlowstoreError"
    assert failure.cause is not None
    assert failure.cause.type_name == "KeyError"


def test_finds_what_can_not_be_read_any_more(figures: Figures) -> None:
    with opened(("MemoryStorage", {})) as storage:
        with FILES[0].open("rb") as given:
            import_records(given, storage)
        one = storage.get(Key("golden", "zstd", "plain"))
        storage.put(type(one)(one.ref, one.payload, {**one.headers, "format": 99}))
        other = storage.get(Key("golden", "json", "set"))
        storage.put(READER.encode(other.ref, [1, 2, 3]))
        wrong = unreadable(storage)
    figures.planted(CLAIM, "a format that is not known, a value of another type", unreadable=wrong)
    assert wrong == 2


def test_the_file_holds_what_is_told_of_it() -> None:
    expected = {(one.kind, one.key.task_name, one.key.task_id, one.ref.name) for one, _ in records()}
    made = error()
    expected.add((made.kind, made.key.task_name, made.key.task_id, made.ref.name))
    assert {(key[0], *key[2:]) for key in lines(FILES[0].read_bytes())} == expected
