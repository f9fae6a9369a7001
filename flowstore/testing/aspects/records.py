"""Single records and their revisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import ConflictError, InvalidKeyError, NotFoundError, SerializationError
from flowstore.record import ERROR, RESULT, Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.storage.revisions import LATEST
from flowstore.testing.aspects.values import ErrorTests
from flowstore.testing.base import AdapterTests
from flowstore.testing.concurrency import in_threads
from flowstore.testing.samples import KEY, RICH_VALUES, record


class RecordTests(AdapterTests):
    """Payloads and headers are returned as they were given, as copies."""

    aspect = "records"

    @pytest.mark.parametrize("value", RICH_VALUES, ids=repr)
    def test_returns_values_beyond_json(self, storage: RecordStorage, value: object) -> None:
        """A payload was changed, so that flowstore can't decode its value."""
        storage.store("flow", "task", "1", value)
        found = storage.retrieve("flow", "task", "1")
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream", None])
    @pytest.mark.parametrize(
        "payload",
        [b"", b"\n", b"\n\n{}\n", b"\xff\xfe\0\n", b"\xef\xbb\xbf{}", b"\xed\xa0\x80", b"1\0", b'{"b":1, "a":1}'],
    )
    def test_keeps_payloads_byte_for_byte(
        self, storage: RecordStorage, payload: bytes, content_type: str | None
    ) -> None:
        """A payload was stored as text or normalized.

        It no longer matches the digest in its headers.
        """
        storage.put(Record(Ref(RESULT, KEY), payload, {"content_type": content_type}))
        assert storage.get(KEY).payload == payload
        assert storage.get_many([Ref(RESULT, KEY)])[0] == storage.get(KEY)
        assert storage.scan(Query()).records == [storage.get(KEY)]

    def test_keeps_headers_that_it_does_not_know(self, storage: RecordStorage) -> None:
        """An unknown header was dropped.

        Later versions of flowstore and applications have other headers.
        """
        headers = {"run_id": "r", "worker": "é\n", "parents": [["a", "b"]], "nested": {"x": [1.5, None, True]}, "n": 0}
        storage.put(Record(Ref(RESULT, KEY), b"1", headers))
        assert storage.get(KEY).headers == headers

    def test_refuses_headers_that_are_not_json_and_keeps_the_old_record(self, storage: RecordStorage) -> None:
        """Invalid headers were stored, or the old record is lost."""
        storage.store("flow", "task", "1", "old")
        with pytest.raises(SerializationError, match="headers"):
            storage.put(record(KEY, "new", broken=object()))
        assert storage.retrieve("flow", "task", "1") == "old"

    def test_gives_out_copies(self, storage: RecordStorage) -> None:
        """A caller's change to a record changed what is stored."""
        facts: dict[str, Any] = {"list": [1]}
        storage.put(record(KEY, {"a": [1]}, **facts))
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

    def test_reads_headers_alone(self, storage: RecordStorage) -> None:
        """``payload=False`` leaves out more than the payload, or less."""
        storage.put(record(KEY, "x" * 1000, run_id="r"))
        whole, bare = storage.get(KEY), storage.get(KEY, payload=False)
        assert bare == Record(whole.ref, b"", whole.headers, whole.revision)

    def test_raises_bugs_unchanged(self, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bug of the adapter is reported as an outage, which is retried."""

        def mistaken(*_: Any, **__: Any) -> Any:
            raise LookupError("a mistake of the adapter's")

        for name in ("_get", "_put", "_delete", "_scan"):
            monkeypatch.setattr(type(storage), name, mistaken)
        for operation in (
            lambda: storage.get(KEY),
            lambda: storage.put(record(KEY, 1)),
            lambda: storage.delete(KEY),
            lambda: storage.scan(Query()),
        ):
            with pytest.raises(LookupError, match="a mistake"):
                operation()

    @pytest.mark.parametrize("names", [("\ud800", "t", "1"), ("f", "a\udcff", "1"), ("f", "t", "\udfff")])
    def test_refuses_lone_surrogates(self, storage: RecordStorage, names: tuple[str, str, str]) -> None:
        """A key with a lone surrogate was changed silently.

        No database can store it, so it must be refused.
        """
        with pytest.raises(InvalidKeyError):
            storage.store(*names, 1)
        assert storage.scan(Query()).records == []


class ErrorRecordTests(ErrorTests):
    """The error of a task can be read back."""

    aspect = "errors"

    def test_returns_the_error(self, storage: RecordStorage) -> None:
        """The error of a task can't be read, or is returned as a result."""
        try:
            raise ValueError("bad é")
        except ValueError as exc:
            storage.store_error({"args": [1]}, "flow", "task", "1", (ValueError, exc, exc.__traceback__))
        error = storage.retrieve_error("flow", "task", "1")
        assert (error.failure.type_name, error.failure.message) == ("ValueError", "bad é")
        with pytest.raises(NotFoundError):
            storage.retrieve("flow", "task", "1")


class RevisionTests(AdapterTests):
    """Revisions grow by one, are never reused, and decide who may write."""

    aspect = "revisions"

    def test_counts_revisions(self, storage: RecordStorage) -> None:
        """A revision repeats, which lets a stale writer win."""
        first = storage.put(record(KEY, 0)).revision
        assert [storage.put(record(KEY, number)).revision - first for number in range(1, 77)] == list(range(1, 77))
        assert storage.get(KEY).revision == first + 76
        assert storage.scan(Query()).records[0].revision == first + 76
        assert 0 < first < LATEST

    def test_no_revision_comes_again(self, storage: RecordStorage) -> None:
        """A record that was stored anew has a revision of the deleted one.

        A writer that has read the old record could change the new one.
        """
        stores: list[Callable[[Record], object]] = [
            storage.put,
            lambda one: storage.put(one, if_revision=0),
            lambda one: storage.put_many([one]),
            lambda one: storage.add_many([one]),
        ]
        deletes: list[Callable[[], object]] = [
            lambda: storage.delete(KEY),
            lambda: storage.delete_many([Ref(RESULT, KEY)]),
            lambda: storage.delete_seen([storage.get(KEY, payload=False)]),
            lambda: storage.delete_task(KEY),
            storage.purge,
        ]
        seen: list[int] = []
        for store in stores:
            for delete in deletes:
                store(record(KEY, "one"))
                seen.append(storage.get(KEY).revision)
                seen.append(storage.put(record(KEY, "two")).revision)
                delete()
        assert seen == sorted(set(seen))
        storage.put(record(KEY, "another's"))
        for stale in seen:
            with pytest.raises(ConflictError):
                storage.put(record(KEY, "stale"), if_revision=stale)
            with pytest.raises(ConflictError):
                storage.delete(KEY, if_revision=stale)
        for stale in seen:
            assert storage.delete_seen([record(KEY, None).at(stale)]) == 0
        assert storage.retrieve("flow", "task", "1") == "another's"

    def test_stores_if_there_is_none(self, storage: RecordStorage) -> None:
        """``if_revision=0`` replaced a record, or the conflict lacks the record."""
        first = storage.put(record(KEY, "first"), if_revision=0)
        with pytest.raises(ConflictError) as caught:
            storage.put(record(KEY, "second"), if_revision=0)
        assert pipeline.decode(caught.value.current) == "first"
        assert caught.value.current.revision == first.revision
        assert storage.retrieve("flow", "task", "1") == "first"
        storage.delete(KEY)
        assert storage.put(record(KEY, "third"), if_revision=0).revision > first.revision

    def test_replaces_only_the_revision_that_is_expected(self, storage: RecordStorage) -> None:
        """A stale writer replaced a newer record, or the conflict lacks it."""
        with pytest.raises(ConflictError) as caught:
            storage.put(record(KEY, "x"), if_revision=1)
        assert caught.value.current is None
        first = storage.put(record(KEY, "one")).revision
        assert storage.put(record(KEY, "two"), if_revision=first).revision == first + 1
        for stale in (first, first + 2):
            with pytest.raises(ConflictError) as caught:
                storage.put(record(KEY, "three"), if_revision=stale)
            assert pipeline.decode(caught.value.current) == "two"
            assert caught.value.current.revision == first + 1
        assert storage.retrieve("flow", "task", "1") == "two"

    def test_recognizes_its_own_write(self, storage: RecordStorage) -> None:
        """A repeated write, whose answer was lost, conflicts with itself."""
        mine = record(KEY, "mine")
        stored = storage.put(mine, if_revision=0)
        assert storage.put(mine, if_revision=0) == stored
        assert storage.get(KEY).revision == stored.revision

    def test_deletes(self, storage: RecordStorage) -> None:
        """A deleted record is still found, or reported as deleted twice."""
        storage.put(record(KEY, "x", run_id="r"))
        assert storage.delete(KEY)
        assert not storage.delete(KEY)
        with pytest.raises(NotFoundError):
            storage.get(KEY)
        assert storage.scan(Query(run_id="r")).records == []

    def test_deletes_only_the_revision_that_is_expected(self, storage: RecordStorage) -> None:
        """A stale delete removed a newer record, or the conflict lacks it."""
        assert not storage.delete(KEY, if_revision=1)
        first = storage.put(record(KEY, "one")).revision
        last = storage.put(record(KEY, "two")).revision
        for stale in (0, first, last + 1):
            with pytest.raises(ConflictError) as caught:
                storage.delete(KEY, if_revision=stale)
            assert caught.value.current.revision == last
            assert pipeline.decode(caught.value.current) == "two"
        assert storage.delete(KEY, if_revision=last)
        assert not storage.delete(KEY, if_revision=last)

    def test_deletes_all_of_a_task(self, storage: RecordStorage) -> None:
        """A record of the key stays, or a record of another key was deleted."""
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

    def test_goes_on_after_a_refusal(self, storage: RecordStorage) -> None:
        """A refused write left a lock or transaction that blocks others."""
        first = storage.put(record(KEY, "one")).revision
        with pytest.raises(ConflictError):
            storage.put(record(KEY, "two"), if_revision=0)
        with pytest.raises(ConflictError):
            storage.delete(KEY, if_revision=7)
        with pytest.raises(SerializationError):
            storage.put(record(KEY, "two", broken=object()))
        in_threads(lambda barrier, worker: storage.put(record(KEY, worker)), self.deadline, count=1)
        assert storage.get(KEY).revision == first + 1
