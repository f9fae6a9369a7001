"""The contract of ``RecordStorage``, as tests that each adapter's class inherits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowstore import pipeline
from flowstore.errors import ConflictError, InvalidKeyError, NotFoundError, SerializationError, StorageError
from flowstore.record import ERROR, RESULT, RUN, Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from tests.storages.storage_kit import Recipe, make, record

KEY = Key("flow", "task", "1")

HOSTILE = [
    "",
    " ",
    "a",
    "A",
    "a ",
    " a",
    "a\n",
    "a\r\n",
    "a\tb",
    "a/b",
    "/a",
    "a\\b",
    ".",
    "..",
    "../../etc/passwd",
    "a\0b",
    "a\0",
    "\0",
    "a:b",
    "a::b",
    "a%2Fb",
    "a?b#c",
    "*",
    "%",
    "_",
    "a'b\"c`d",
    "'; DROP TABLE flowstore_records; --",
    "$where",
    "{a}",
    "~",
    "CON",
    "-rf",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "ß",
    "SS",
    "\u0131",  # an i without its dot
    "i",
    "\u212a",  # the Kelvin sign, which case folding makes a k
    "K",
    "名前",
    "🍎",
    "\u202eabc",
    "\ufeffa",
    "\uffff",
    "\U0010ffff",
    "x" * 1024,
    "x" * 1023 + "y",
    "é" * 512,
]

VALUES = [None, True, 0, -1.5, "", "é\0🍎", [], {}, [1, [2, [3]]], {"a": None, "": [""]}, (1, {2}), b"\xff\0", 2**80]


class StorageContract:
    """What every adapter promises."""

    @pytest.fixture
    def recipe(self, tmp_path: Path) -> Recipe:
        raise NotImplementedError

    @pytest.fixture
    def storage(self, recipe: Recipe) -> Iterator[RecordStorage]:
        storage = make(recipe)
        storage.connect()
        yield storage
        storage.disconnect()

    # Values

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_gives_back_what_was_stored(self, storage: RecordStorage, value: object) -> None:
        storage.store("flow", "task", "1", value)
        found = storage.retrieve("flow", "task", "1")
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize("names", [("other", "task", "1"), ("flow", "other", "1"), ("flow", "task", "2")])
    def test_does_not_find_another_key(self, storage: RecordStorage, names: tuple[str, str, str]) -> None:
        storage.store("flow", "task", "1", "mine")
        with pytest.raises(NotFoundError):
            storage.retrieve(*names)
        assert not storage.delete(Key(*names))
        assert storage.retrieve("flow", "task", "1") == "mine"

    def test_keeps_the_error_beside_the_result(self, storage: RecordStorage) -> None:
        storage.store("flow", "task", "1", "result")
        try:
            raise ValueError("bad é")
        except ValueError as exc:
            storage.store_error({"args": [1]}, "flow", "task", "1", (ValueError, exc, exc.__traceback__))
        assert storage.retrieve("flow", "task", "1") == "result"
        error = storage.retrieve_error("flow", "task", "1")
        assert (error.failure.type_name, error.failure.message) == ("ValueError", "bad é")

    def test_replaces_what_was_stored_under_the_same_key(self, storage: RecordStorage) -> None:
        storage.store("flow", "task", "1", "old and longer")
        storage.store("flow", "task", "1", "new")
        assert storage.retrieve("flow", "task", "1") == "new"
        assert len(list(storage.records(Query()))) == 1

    def test_keeps_large_values(self, storage: RecordStorage) -> None:
        value = {"text": "é" * 1_000_000, "list": list(range(100_000))}
        storage.store("flow", "task", "1", value)
        assert storage.retrieve("flow", "task", "1") == value

    @pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream", None])
    @pytest.mark.parametrize(
        "payload", [b"", b"\n", b"\n\n{}\n", b"\xff\xfe\0\n", b"\xef\xbb\xbf{}", b"\xed\xa0\x80", b"1\0"]
    )
    def test_keeps_payloads_byte_for_byte(
        self, storage: RecordStorage, payload: bytes, content_type: str | None
    ) -> None:
        storage.put(Record(Ref(RESULT, KEY), payload, {"content_type": content_type}))
        assert storage.get(KEY).payload == payload
        assert storage.get_many([Ref(RESULT, KEY)])[0] == storage.get(KEY)
        assert storage.scan(Query()).records == [storage.get(KEY)]

    def test_keeps_headers_that_it_does_not_know(self, storage: RecordStorage) -> None:
        headers = {"run_id": "r", "worker": "é\n", "parents": [["a", "b"]], "nested": {"x": [1.5, None, True]}}
        storage.put(Record(Ref(RESULT, KEY), b"1", headers))
        assert storage.get(KEY).headers == headers

    def test_refuses_headers_that_are_not_json_and_keeps_the_old_record(self, storage: RecordStorage) -> None:
        storage.store("flow", "task", "1", "old")
        with pytest.raises(SerializationError, match="headers"):
            storage.put(record(KEY, "new", broken=object()))
        assert storage.retrieve("flow", "task", "1") == "old"

    def test_gives_out_copies(self, storage: RecordStorage) -> None:
        facts: dict[str, Any] = {"list": [1]}
        stored = record(KEY, {"a": [1]}, **facts)
        storage.put(stored)
        facts["list"].append("changed by the caller")
        storage.retrieve("flow", "task", "1")["a"].append(2)
        found = storage.get(KEY)
        found.headers["list"].append(2)
        found.headers["new"] = 1  # type: ignore[index]
        for again in (storage.get(KEY), *storage.get_many([found.ref]), *storage.scan(Query()).records):
            assert again is not None
            assert pipeline.decode(again) == {"a": [1]}
            assert again.headers["list"] == [1]
            assert "new" not in again.headers

    # Keys

    @pytest.mark.parametrize("position", ["flow_name", "task_name", "task_id"])
    def test_keeps_hostile_keys_apart(self, storage: RecordStorage, position: str) -> None:
        assert len(set(HOSTILE)) == len(HOSTILE)
        names = {"flow_name": "f", "task_name": "t", "task_id": "i"}
        keys = [Key(**{**names, position: part}) for part in HOSTILE]
        for number, key in enumerate(keys):
            storage.put(record(key, number, run_id=getattr(key, position)))
        for number, key in enumerate(keys):
            assert storage.retrieve(key.flow_name, key.task_name, key.task_id) == number
        assert [found.key for found in storage.records(Query())] == keys
        assert [found and found.key for found in storage.get_many([Ref(RESULT, key) for key in keys])] == keys
        for key in keys:
            for query in (Query(**{position: getattr(key, position)}), Query(run_id=getattr(key, position))):
                assert [found.key for found in storage.records(query)] == [key]
        assert storage.delete(keys[0])
        assert [found.key for found in storage.records(Query())] == keys[1:]

    def test_keeps_keys_apart_that_look_alike_when_joined(self, storage: RecordStorage) -> None:
        keys = [Key("a:b", "c", "1"), Key("a", "b:c", "1"), Key("a", "b", "c:1"), Key("", "a:b:c", "1")]
        keys += [Key("ab", "", ""), Key("a", "b", ""), Key("", "ab", ""), Key("", "", "ab"), Key("", "", "")]
        for number, key in enumerate(keys):
            storage.put(record(key, number))
        assert [pipeline.decode(storage.get(key)) for key in keys] == list(range(len(keys)))

    def test_keeps_hostile_kinds_and_names_apart(self, storage: RecordStorage) -> None:
        refs = [Ref(kind, KEY) for kind in HOSTILE] + [Ref(RESULT, KEY, name) for name in HOSTILE]
        for number, ref in enumerate(refs):
            storage.put(Record(ref, str(number).encode(), {"run_id": "r"}))
        assert [found and found.payload for found in storage.get_many(refs)] == [
            str(number).encode() for number in range(len(refs))
        ]
        assert [found.ref for found in storage.records(Query(run_id="r"))] == refs
        for kind in HOSTILE:
            assert [found.ref for found in storage.records(Query(kinds=(kind,)))] == [Ref(kind, KEY)]
        assert storage.delete_task(KEY) == len(refs)
        assert list(storage.records(Query())) == []

    @pytest.mark.parametrize("names", [("\ud800", "t", "1"), ("f", "a\udcff", "1"), ("f", "t", "\udfff")])
    def test_refuses_lone_surrogates(self, storage: RecordStorage, names: tuple[str, str, str]) -> None:
        with pytest.raises(InvalidKeyError):
            storage.store(*names, 1)
        assert storage.scan(Query()).records == []

    # Revisions

    def test_counts_revisions(self, storage: RecordStorage) -> None:
        assert [storage.put(record(KEY, number)).revision for number in range(77)] == list(range(1, 78))
        assert storage.get(KEY).revision == 77
        assert storage.scan(Query()).records[0].revision == 77

    def test_stores_if_there_is_none(self, storage: RecordStorage) -> None:
        assert storage.put(record(KEY, "first"), if_revision=0).revision == 1
        with pytest.raises(ConflictError) as caught:
            storage.put(record(KEY, "second"), if_revision=0)
        assert pipeline.decode(caught.value.current) == "first"
        assert caught.value.current.revision == 1
        assert storage.retrieve("flow", "task", "1") == "first"
        storage.delete(KEY)
        assert storage.put(record(KEY, "third"), if_revision=0).revision == 1

    def test_replaces_only_the_revision_that_is_expected(self, storage: RecordStorage) -> None:
        with pytest.raises(ConflictError) as caught:
            storage.put(record(KEY, "x"), if_revision=1)
        assert caught.value.current is None
        storage.put(record(KEY, "one"))
        assert storage.put(record(KEY, "two"), if_revision=1).revision == 2
        for stale in (1, 3):
            with pytest.raises(ConflictError) as caught:
                storage.put(record(KEY, "three"), if_revision=stale)
            assert pipeline.decode(caught.value.current) == "two"
            assert caught.value.current.revision == 2
        assert storage.retrieve("flow", "task", "1") == "two"

    def test_recognizes_its_own_write(self, storage: RecordStorage) -> None:
        mine = record(KEY, "mine")
        assert storage.put(mine, if_revision=0) == storage.put(mine, if_revision=0)
        assert storage.get(KEY).revision == 1

    def test_deletes(self, storage: RecordStorage) -> None:
        storage.put(record(KEY, "x", run_id="r"))
        assert storage.delete(KEY)
        assert not storage.delete(KEY)
        with pytest.raises(NotFoundError):
            storage.get(KEY)
        assert storage.scan(Query(run_id="r")).records == []

    def test_deletes_only_the_revision_that_is_expected(self, storage: RecordStorage) -> None:
        assert not storage.delete(KEY, if_revision=1)
        storage.put(record(KEY, "one"))
        storage.put(record(KEY, "two"))
        for stale in (0, 1, 3):
            with pytest.raises(ConflictError) as caught:
                storage.delete(KEY, if_revision=stale)
            assert caught.value.current.revision == 2
        assert storage.delete(KEY, if_revision=2)
        assert not storage.delete(KEY, if_revision=2)

    def test_deletes_all_of_a_task(self, storage: RecordStorage) -> None:
        storage.put(record(KEY, 1))
        storage.put(record(KEY, 2, ERROR))
        storage.put(record(KEY, 3, ERROR, "1"))
        storage.put(record(KEY, 4, "own kind", "x", run_id="r"))
        others = [Key("flow", "task", "2"), Key("flow", "other", "1"), Key("other", "task", "1")]
        for key in others:
            storage.put(record(key, 5))
        assert storage.delete_task(KEY) == 4
        assert storage.delete_task(KEY) == 0
        assert [found.key for found in storage.records(Query())] == others

    # Many

    def test_gets_many_in_the_order_asked_for(self, storage: RecordStorage) -> None:
        keys = [Key("flow", "task", str(number)) for number in range(1203)]
        for number, key in enumerate(keys[::2]):
            storage.put(record(key, number))
        refs = [Ref(RESULT, key) for key in keys]
        found = storage.get_many(refs)
        assert [one and one.ref for one in found] == [
            ref if number % 2 == 0 else None for number, ref in enumerate(refs)
        ]
        again = [refs[4], refs[1], refs[0], refs[4]]
        assert [one and one.ref for one in storage.get_many(again)] == [refs[4], None, refs[0], refs[4]]
        assert storage.get_many([]) == []

    def _fill(self, storage: RecordStorage) -> list[Record]:
        records = [
            record(Key(flow, task, str(number)), [flow, task, number, kind], kind, run_id=run_id)
            for number in range(2)
            for flow in ("f", "g")
            for task in ("t", "u")
            for kind, run_id in ((RESULT, "r1"), (ERROR, "r2"), (RUN, None))
        ]
        for one in records:
            storage.put(one)
        return [one.at(1) for one in records]

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"kinds": (RESULT,)},
            {"kinds": (RUN, ERROR)},
            {"kinds": ()},
            {"kinds": ("unknown",)},
            {"flow_name": "f"},
            {"flow_name": "F"},
            {"task_name": "u"},
            {"task_id": "1"},
            {"run_id": "r1"},
            {"run_id": "unknown"},
            {"kinds": (RESULT, ERROR), "flow_name": "g"},
            {"kinds": (RESULT,), "run_id": "r2"},
            {"kinds": (ERROR,), "run_id": "r2", "task_name": "t"},
            {"flow_name": "f", "task_name": "t", "task_id": "0"},
            {"kinds": (RUN,), "flow_name": "f", "task_name": "t", "task_id": "0"},
            {"flow_name": "g", "task_name": "t", "task_id": "1", "run_id": "r2"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("descending", [False, True])
    def test_selects(self, storage: RecordStorage, fields: dict[str, Any], descending: bool) -> None:
        query = Query(**fields, descending=descending)
        expected = [one for one in self._fill(storage) if query.matches(one)]
        if descending:
            expected.reverse()
        assert storage.scan(query).records == expected
        paged, cursor = [], None
        while True:
            page = storage.scan(query, limit=3, cursor=cursor)
            assert len(page.records) == 3 or page.cursor is None
            paged += page.records
            cursor = page.cursor
            if cursor is None:
                break
        assert paged == expected

    def test_lists_headers_alone(self, storage: RecordStorage) -> None:
        expected = [Record(one.ref, b"", one.headers, 1) for one in self._fill(storage)]
        assert storage.scan(Query(), payload=False).records == expected
        one = expected[5]
        assert storage.get(one.key, one.kind, payload=False) == one

    def test_ends_with_the_last_page(self, storage: RecordStorage) -> None:
        everything = self._fill(storage)
        assert storage.scan(Query(), limit=len(everything)).cursor is None
        page = storage.scan(Query(), limit=len(everything) - 1)
        assert page.cursor is not None
        for one in everything:
            storage.delete(one.key, one.kind)
        past = storage.scan(Query(), limit=5, cursor=page.cursor)
        assert (past.records, past.cursor) == ([], None)

    def test_goes_on_where_it_was_while_records_come_and_go(self, storage: RecordStorage) -> None:
        everything = self._fill(storage)
        page = storage.scan(Query(), limit=10)
        for one in (*everything[5:12], everything[-1]):
            storage.delete(one.key, one.kind)
        new = record(Key("new", "t", "1"), "new").at(1)
        storage.put(new)
        rest = storage.scan(Query(), limit=1000, cursor=page.cursor)
        assert [one.ref for one in rest.records] == [one.ref for one in (*everything[12:-1], new)]

    def test_does_not_step_over_what_is_stored_after_the_last_ones_were_deleted(self, storage: RecordStorage) -> None:
        everything = self._fill(storage)
        page = storage.scan(Query(), limit=10)
        for one in everything[5:]:
            storage.delete(one.key, one.kind)
        new = record(Key("new", "t", "1"), "new").at(1)
        storage.put(new)
        assert storage.scan(Query(), cursor=page.cursor).records == [new]

    def test_keeps_the_place_of_a_record_that_is_replaced(self, storage: RecordStorage) -> None:
        keys = [Key("f", "t", str(number)) for number in range(5)]
        for key in keys:
            storage.put(record(key, "old", run_id="r"))
        storage.put(record(keys[1], "new", run_id="r"))
        storage.put(record(keys[2], "new", run_id="r"), if_revision=1)
        assert [one.key for one in storage.records(Query(run_id="r"))] == keys
        storage.delete(keys[0])
        storage.put(record(keys[0], "again", run_id="r"))
        assert [one.key for one in storage.records(Query(run_id="r"))] == [*keys[1:], keys[0]]

    def test_follows_a_record_to_another_run(self, storage: RecordStorage) -> None:
        for run_id in ("a", "b", None, "c"):
            storage.put(record(KEY, run_id, run_id=run_id))
            for other in ("a", "b", "c"):
                assert len(storage.scan(Query(run_id=other)).records) == (other == run_id)

    @pytest.mark.parametrize("cursor", ["", "x", "-", "1-", "é"])
    def test_refuses_a_foreign_cursor(self, storage: RecordStorage, cursor: str) -> None:
        self._fill(storage)
        with pytest.raises(StorageError, match="not a cursor"):
            storage.scan(Query(), cursor=cursor)

    @pytest.mark.parametrize("limit", [0, -1])
    def test_refuses_a_page_without_records(self, storage: RecordStorage, limit: int) -> None:
        with pytest.raises(ValueError, match="limit"):
            storage.scan(Query(), limit=limit)

    # Connections

    def test_connects_and_disconnects_repeatedly(self, recipe: Recipe) -> None:
        storage = make(recipe)
        assert not storage.is_connected()
        storage.disconnect()
        for number in range(3):
            storage.connect()
            storage.connect()
            assert storage.is_connected()
            storage.store("flow", "task", str(number), number)
            assert storage.retrieve("flow", "task", str(number)) == number
            storage.disconnect()
            storage.disconnect()
            assert not storage.is_connected()
