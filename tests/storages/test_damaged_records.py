"""One record among others with headers that flowstore never writes: it alone can't be read, all else goes on."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from flowstore import CorruptError, FlowStore, Key, Query
from flowstore.copying import copy, export_records, verify
from flowstore.errors import FlowstoreError
from flowstore.record import ERROR, RESULT, RUN, Ref
from flowstore.record.damage import on_damage
from flowstore.storage import RecordStorage
from flowstore.storages import MemoryStorage
from tests.reliability.figures import COLLECTED
from tests.storages import places
from tests.storages.storage_kit import Recipe, record
from tests.storages.wrecks import wreck

pytest_plugins = ("tests.storages.every_storage",)

GENERATION = "x/../../../../../outside"
HEADERS: list[dict[str, Any]] = [
    {"expires_at": "soon"}, {"expires_at": []}, {"stored_at": "x"}, {"run_id": 5}, {"state": []}, {"attempt": "x"},
    {"parents": 5}, {"parents": [[1]]}, {"parents": [[1, 2]]}, {"group_id": []}, {"joins": []},
    {"group_index": "x", "group_id": "g"}, {"started_at": "x"}, {"size": "x"}, {"content": 5}, {"content": {}},
    {"content": {"generation": GENERATION, "pieces": 1, "size": 1, "content_type": None}}, {"blob": 5},
    {"codecs": [["zstd"]]}, {"error": 5}, {"full_size": "x"},
]  # fmt: skip
TEXTS = (b"", b"{", b"[]", b"5", b'{"state": "\\ud800"}', b"\xff{")
BAD = Ref(RESULT, Key("f", "t", "1"))
RUN_ID = "run"


@pytest.fixture
def store(recipe: Recipe) -> Iterator[FlowStore]:
    store = FlowStore(places.configuration(recipe))
    yield store
    store.close()


@pytest.fixture
def main(store: FlowStore) -> RecordStorage:
    """The store's own storage, with a run of five tasks in it."""
    main = store.storage("Results")
    assert isinstance(main, RecordStorage)
    fill(main)
    return main


def fill(storage: RecordStorage) -> None:
    facts = {"run_id": RUN_ID, "state": "SUCCESS", "attempt": 1, "group_id": "g", "joins": "z"}
    for number in range(5):
        key = Key("f", "t", str(number))
        one = storage.pipeline.encode(Ref(RESULT, key), number, {**facts, "started_at": number, "group_index": number})
        storage.put(one)
    storage.put(record(Key("f", "t", "e"), {}, ERROR, run_id=RUN_ID, state="FAILURE", attempt=1))
    storage.put(record(Key("f", "", RUN_ID), {"result": ["t", "2"], "members": ["0", "2"]}, RUN, run_id=RUN_ID))
    storage.put(record(Key("other", "t", "1"), "other", run_id="other"))


def changing(headers: dict[str, Any]) -> Callable[[bytes], bytes]:
    return lambda text: orjson.dumps({**orjson.loads(text), **headers})


def operations(store: FlowStore, storage: RecordStorage) -> dict[str, Callable[[], object]]:
    """Return what is done with a storage, the bad record last."""
    return {
        "list": lambda: len(list(storage.records(Query()))) == 7,
        "list without payloads": lambda: len(list(storage.records(Query(flow_name="f"), payload=False))) == 6,
        "list by task id": lambda: len(list(storage.records(Query(kinds=(RESULT,), order="task_id")))) == 5,
        "count": lambda: storage.count(Query()) in (7, 8),
        "runs and tasks": lambda: {task.id for run in store.runs("f") for task in run.tasks()} == set("0234e"),
        "get of the run": lambda: store.runs("f")[0].get(timeout=0) == 2,
        "retrieve another one": lambda: store.retrieve("f", "t", "2") == 2,
        "export": lambda: export_records(storage, io.BytesIO()).records == 7,
        "copy": lambda: copy(storage, connected()).copied == 7,
        "cleanup": lambda: store.cleanup("1000d") == 0,
        "retrieve the bad one": lambda: store.retrieve("f", "t", "1"),
        "delete the bad one": lambda: store.delete("f", "t", "1") and store.retrieve("f", "t", "1", None) is None,
    }  # fmt: skip


def connected() -> RecordStorage:
    storage = MemoryStorage()
    storage.connect()
    return storage


def test_no_bad_header_stops_anything_beside_it(
    store: FlowStore, main: RecordStorage, recipe: Recipe, kind: str
) -> None:
    calls, untyped, wrong = 0, [], []
    for headers in HEADERS:
        fill(main)
        wreck(recipe, main, BAD, changing(headers))
        for name, call in operations(store, main).items():
            calls += 1
            try:
                if not call():
                    wrong.append((headers, name))
            except FlowstoreError as exc:
                if name != "retrieve the bad one" or not isinstance(exc, CorruptError):
                    wrong.append((headers, f"{name}: {exc!r}"))
            except Exception as exc:
                untyped.append((headers, name, repr(exc)))
    COLLECTED.note(
        "bad headers: all else goes on", kind, calls=calls, untyped_exceptions=len(untyped), wrong_answers=len(wrong)
    )
    assert (calls, untyped, wrong) == (252, [], [])


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_headers_that_are_no_json_stop_nothing_beside_them(
    store: FlowStore, main: RecordStorage, recipe: Recipe, text: bytes
) -> None:
    if recipe[0] == "SqlStorage" and not recipe[1]["connection_string"].startswith("sqlite") and b"\xff" in text:
        pytest.skip("the server refuses text that is not UTF-8")
    wreck(recipe, main, BAD, lambda _: text)
    for name, call in operations(store, main).items():
        if name == "retrieve the bad one":
            with pytest.raises(CorruptError):
                call()
        else:
            assert call(), name


def test_what_is_passed_over_is_told(
    store: FlowStore, main: RecordStorage, recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    wreck(recipe, main, BAD, changing({"attempt": "x"}))
    told: list[CorruptError] = []
    with on_damage(told.append):
        list(main.records(Query()))
        store.runs("f")[0].tasks()
        store.cleanup("1000d")
    assert [(one.ref, "'attempt' is a string ('x')" in str(one)) for one in told] == [(BAD, True)]
    assert not caplog.records
    assert [one.error.ref for one in main.scan(Query(flow_name="f")).damaged] == [BAD]
    assert not main.scan(Query(flow_name="other")).damaged
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        assert len(list(main.records(Query()))) == 7
        (line,) = caplog.records
        assert "skipped a damaged record: the stored headers of result 'f' / 't' / '1'" in line.getMessage()


def test_an_export_and_a_copy_tell_what_they_leave_out(main: RecordStorage, recipe: Recipe) -> None:
    wreck(recipe, main, BAD, changing({"attempt": "x"}))
    told: list[CorruptError] = []
    with on_damage(told.append):
        target = connected()
        copy(main, target)
        assert verify(main, target).same == 7
        assert export_records(main, io.BytesIO()).records == 7
    assert [one.ref for one in told] == [BAD]


@pytest.mark.parametrize("change", [changing({"run_id": 5}), changing({"attempt": "x"}), lambda _: b"{"])
def test_what_deletes_more_than_one_deletes_damaged_ones_too(
    store: FlowStore, main: RecordStorage, recipe: Recipe, change: Callable[[bytes], bytes]
) -> None:
    def begin() -> None:
        fill(main)
        wreck(recipe, main, BAD, change)

    deletions: dict[Callable[[], int], tuple[int, int]] = {
        lambda: store.delete_run(RUN_ID): (7, 1),
        lambda: main.delete_tasks([BAD.key, Key("f", "t", "2")]): (2, 6),
        lambda: main.purge(RESULT): (6, 2),
        lambda: main.clear(): (8, 0),
        lambda: main.purge(): (8, 0),
    }
    for delete, (deleted, left) in deletions.items():
        begin()
        gone = delete()
        # In S3, the marker of a damaged record stays, and counts when all is purged.
        assert gone == deleted or (recipe[0] == "S3Storage" and deleted == 8 and gone > deleted)
        assert len(list(main.records(Query()))) == left
        with pytest.raises(LookupError):
            main.get(BAD.key)


def test_a_damaged_note_or_pointer_leaves_the_contents_of_others(
    store: FlowStore, main: RecordStorage, recipe: Recipe
) -> None:
    main.blob_threshold = 1000
    for task_id in ("1", "2"):
        main.store("f", "t", task_id, "v" * 5000)
    outside = {"generation": GENERATION, "pieces": 1, "size": 5002, "content_type": None}
    note = Ref("piece", Key("", "", BAD.address.hex()), "generations")
    for ref, change in ((note, {"generations": {GENERATION: 1}}), (note, {"of": 5}), (BAD, {"content": outside})):
        wreck(recipe, main, ref, changing(change))
        assert store.cleanup() == 0
        assert store.retrieve("f", "t", "2") == "v" * 5000
    with pytest.raises(CorruptError, match="which is not a name from flowstore"):
        store.retrieve("f", "t", "1")
    assert store.delete("f", "t", "1")
    assert store.cleanup() == 0
    assert store.retrieve("f", "t", "2") == "v" * 5000
