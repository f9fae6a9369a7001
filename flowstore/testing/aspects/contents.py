"""Large values: stored apart from their records, deleted with them."""

from __future__ import annotations

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import ConflictError, CorruptError, UnreachableError
from flowstore.record import BLOB, ERROR, RESULT, Key, Query, Ref
from flowstore.storage import PART, RecordStorage, Source
from flowstore.testing.aspects.blobs import OTHER, THRESHOLD, content, contents, names, read
from flowstore.testing.base import AdapterTests
from flowstore.testing.samples import KEY, record


class ContentTests(AdapterTests):
    """Values are equal below and above the threshold; orphans are deleted."""

    aspect = "large values"

    def test_values_cross_the_threshold(self, storage: RecordStorage) -> None:
        """A value that replaced one of another size is not read back."""
        storage.blob_threshold = THRESHOLD
        storage.store(*names(OTHER), "another")
        ref = Ref(RESULT, KEY)
        last = 0
        for size in (10, 5000, 20, 6000, 7000, PART * 2, 1, 5000):
            stored = storage.put(record(KEY, "x" * size, run_id="r"))
            assert stored.revision == (last + 1 if last else stored.revision)
            last = stored.revision
            assert storage.retrieve(*names(KEY)) == "x" * size
            assert storage.get(KEY) == storage.get_many([ref])[0] == stored
            assert list(storage.records(Query(run_id="r"))) == storage.scan(Query(run_id="r")).records == [stored]
            [head] = storage.scan(Query(run_id="r"), payload=False).records
            assert (head.payload, head.headers) == (b"", stored.headers)
            assert storage.get(KEY, payload=False).headers == stored.headers
            assert storage.count(Query()) == 2
            assert contents(storage) == (size > THRESHOLD)
        assert storage.delete(KEY)
        assert contents(storage) == 0
        for size in (5, 5000, 6):
            storage.delete(KEY)
            stored = storage.put(record(KEY, "x" * size))
            assert storage.put(record(KEY, "x")).revision == stored.revision + 1 > last + 1
            assert contents(storage) == 0

    def test_batches_cross_the_threshold(self, storage: RecordStorage) -> None:
        """Large records of a batch are swapped, or replaced ones leave orphans."""
        storage.blob_threshold = THRESHOLD
        keys = [Key("flow", "batch", str(number)) for number in range(6)]
        refs = [Ref(RESULT, key) for key in keys]
        first: list[int] = []
        for turn in range(3):
            batch = [record(key, "x" * (3000 if (turn + n) % 2 else 3)) for n, key in enumerate(keys)]
            stored = storage.put_many(batch)
            first = first or [one.revision for one in stored]
            assert [one.revision - at for one, at in zip(stored, first, strict=True)] == [turn] * 6
            assert storage.get_many(refs) == stored
            assert contents(storage) == 3
        added = storage.add_many([record(keys[1], "y" * 3000), record(OTHER, "y" * 3000)])
        assert [None if one is None else pipeline.decode(one) for one in added] == ["x" * 3000, None]
        assert storage.delete_many([*refs, Ref(RESULT, OTHER)]) == 7
        assert contents(storage) == 0

    def test_conditions_hold_for_large_values(self, storage: RecordStorage) -> None:
        """A conflict lacks the stored value, or a refused write left an orphan."""
        storage.blob_threshold = THRESHOLD
        first = storage.put(record(KEY, "a" * 3000), if_revision=0)
        for value in ("b" * 3000, "b"):
            for revision in (0, first.revision + 1):
                with pytest.raises(ConflictError) as caught:
                    storage.put(record(KEY, value), if_revision=revision)
                assert caught.value.current == first
        with pytest.raises(ConflictError) as caught:
            storage.delete(KEY, if_revision=first.revision + 1)
        assert caught.value.current == first
        assert contents(storage) == 1
        assert storage.put(first, if_revision=0) == first, "a write that is repeated is no conflict"
        assert contents(storage) == 1
        assert storage.put(record(KEY, "c" * 3000), if_revision=first.revision).revision == first.revision + 1
        assert pipeline.decode(storage.get(KEY)) == "c" * 3000
        assert contents(storage) == 1

    def test_deleting_reaches_blobs(self, storage: RecordStorage) -> None:
        """Deleted records leave payloads that can never be found again."""
        storage.blob_threshold = THRESHOLD

        def fill() -> None:
            for key in (KEY, OTHER):
                storage.store_blob(key, "a", content("x", PART), facts={"run_id": f"run {key.task_id}"})
                storage.put(record(key, "x" * 3000, run_id=f"run {key.task_id}"))
                storage.put(record(key, "x" * 3000, ERROR))
            assert contents(storage) == 6

        fill()
        assert storage.delete_task(KEY) == 3
        assert contents(storage) == 3
        fill()
        assert storage.delete_run("run 1") == 3
        assert contents(storage) == 3
        assert read(storage, OTHER) == content("x", PART)
        fill()
        storage.put(record(KEY, "y" * 3000, expires_at=storage.now() - 1))
        assert storage.cleanup() == 1
        assert contents(storage) == 5
        assert storage.purge(BLOB) == 2
        assert contents(storage) == 3
        fill()
        storage.clear()
        assert contents(storage) == 0
        fill()
        storage.purge()
        assert contents(storage) == 0

    def test_orphans_are_found(self, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cleanup misses a dead writer's orphan, or deletes a payload in use.

        A writer may die before or after its record is replaced.
        """
        storage.blob_threshold = THRESHOLD
        storage.store_blob(KEY, "a", content("x", PART))
        storage.store(*names(KEY), "x" * 3000)
        for number in range(2):
            storage._write_content(Ref(BLOB, KEY, "a"), f"f{number:031}", Source(content("y", PART)))
        assert storage.remove_orphans() == 0, "a record may be about to point to what is young"
        assert contents(storage) == 4
        assert storage.remove_orphans(0) == 2
        with monkeypatch.context() as patch:
            patch.setattr(type(storage), "_delete_content", _unreachable)
            storage.store_blob(KEY, "a", content("z", PART))
            storage.store(*names(KEY), "small")
        assert contents(storage) == 3
        storage.remove_orphans(0)
        assert contents(storage) == 1
        assert read(storage) == content("z", PART)
        assert storage.retrieve(*names(KEY)) == "small"

    def test_what_is_lost_is_corrupt(self, storage: RecordStorage) -> None:
        """A lost or swapped payload is reported as a missing record.

        It must be CorruptError.
        """
        storage.blob_threshold = THRESHOLD
        storage.store_blob(KEY, "a", content("x", PART))
        storage.store(*names(KEY), "x" * 3000)
        for ref in (Ref(BLOB, KEY, "a"), Ref(RESULT, KEY)):
            pointer = storage._get(ref, False)
            assert pointer is not None
            kept = pointer.headers["content"]
            storage._delete_content(ref, kept["generation"], kept["pieces"])
        with pytest.raises(CorruptError):
            read(storage)
        with pytest.raises(CorruptError):
            storage.retrieve(*names(KEY))
        storage.store(*names(KEY), "new")
        storage._write_content(Ref(BLOB, KEY, "a"), _generation(storage), Source(content("y", PART)))
        with pytest.raises(CorruptError):
            read(storage)
        storage.store_blob(KEY, "a", b"new")
        assert read(storage) == b"new"


def _generation(storage: RecordStorage) -> str:
    pointer = storage._get(Ref(BLOB, KEY, "a"), False)
    assert pointer is not None
    generation: str = pointer.headers["content"]["generation"]
    return generation


def _unreachable(*_: object) -> None:
    raise UnreachableError("injected: the writer ends here")
