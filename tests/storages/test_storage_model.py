"""Random histories, against adapters and against a dictionary."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from flowstore.errors import ConflictError, NotFoundError
from flowstore.record import JSON, Key, Query, Record, Ref
from tests.storages.storage_kit import Recipe, make

PARTS = st.sampled_from(["", "a", "A", "a ", "a:b", "b:c", "é", "e\u0301", "x\0"])
REFS = st.builds(
    Ref,
    st.sampled_from(["result", "error", "Own/kind"]),
    st.builds(Key, PARTS, st.sampled_from(["t", "u"]), st.sampled_from(["1", "2"])),
    st.sampled_from(["", "1"]),
)
RUNS = st.sampled_from([None, "r", "s"])
PAYLOADS = st.binary(max_size=20) | st.sampled_from([b"{}", b"null", b"\n\n", b"x" * 20_000])
EXPECTED = st.sampled_from([None, None, 0, "current", "stale"])
QUERIES = st.builds(
    Query,
    kinds=st.none() | st.sampled_from([("result",), ("error", "Own/kind")]),
    flow_name=st.none() | PARTS,
    task_name=st.none() | st.just("t"),
    task_id=st.none() | st.just("1"),
    run_id=RUNS,
    descending=st.booleans(),
)


class History(RuleBasedStateMachine):
    """A dictionary keeps its order when a value is replaced: that of first storing."""

    adapter: ClassVar[str]

    def recipe(self) -> Recipe:
        if self.adapter == "MemoryStorage":
            return self.adapter, {}
        if self.adapter == "FileStorage":
            return self.adapter, {"path": f"{self.folder}/records", "durable": False}
        return self.adapter, {"connection_string": f"sqlite:///{self.folder}/records.db", "synchronous": "NORMAL"}

    @initialize()
    def start(self) -> None:
        # Not pytest's folder: each history needs its own.
        self.folder = tempfile.mkdtemp()
        self.storage = make(self.recipe())
        self.storage.connect()
        self.model: dict[Ref, Record] = {}

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.storage.disconnect()
            shutil.rmtree(self.folder)

    def revision(self, ref: Ref, expected: object) -> int | None:
        now = self.model[ref].revision if ref in self.model else 0
        return now if expected == "current" else now + 1 if expected == "stale" else 0 if expected == 0 else None

    @rule(ref=REFS, payload=PAYLOADS, run_id=RUNS, is_json=st.booleans(), expected=EXPECTED)
    def put(self, ref: Ref, payload: bytes, run_id: str | None, is_json: bool, expected: object) -> None:
        headers: dict[str, Any] = {"token": os.urandom(8).hex(), "content_type": JSON if is_json else None}
        if run_id is not None:
            headers["run_id"] = run_id
        record, old = Record(ref, payload, headers), self.model.get(ref)
        if_revision = self.revision(ref, expected)
        if if_revision not in (None, old.revision if old else 0):
            with pytest.raises(ConflictError) as caught:
                self.storage.put(record, if_revision=if_revision)
            assert caught.value.current == old
        else:
            self.model[ref] = record.at(old.revision + 1 if old else 1)
            assert self.storage.put(record, if_revision=if_revision) == self.model[ref]

    @rule(ref=REFS, expected=EXPECTED)
    def delete(self, ref: Ref, expected: object) -> None:
        if_revision = self.revision(ref, expected)
        if ref in self.model and if_revision not in (None, self.model[ref].revision):
            with pytest.raises(ConflictError) as caught:
                self.storage.delete(ref.key, ref.kind, ref.name, if_revision=if_revision)
            assert caught.value.current.ref == ref
        else:
            found = self.model.pop(ref, None)
            assert self.storage.delete(ref.key, ref.kind, ref.name, if_revision=if_revision) == (found is not None)

    @rule(ref=REFS)
    def delete_task(self, ref: Ref) -> None:
        mine = [other for other in self.model if other.key == ref.key]
        assert self.storage.delete_task(ref.key) == len(mine)
        for other in mine:
            del self.model[other]

    @rule(ref=REFS, payload=st.booleans())
    def get(self, ref: Ref, payload: bool) -> None:
        expected = self.model.get(ref)
        if expected is None:
            with pytest.raises(NotFoundError):
                self.storage.get(ref.key, ref.kind, ref.name, payload=payload)
        else:
            found = self.storage.get(ref.key, ref.kind, ref.name, payload=payload)
            assert found == (expected if payload else _without_payload(expected))

    @rule(refs=st.lists(REFS, max_size=5))
    def get_many(self, refs: list[Ref]) -> None:
        assert self.storage.get_many(refs) == [self.model.get(ref) for ref in refs]

    @rule(query=QUERIES, limit=st.integers(1, 5), payload=st.booleans())
    def scan(self, query: Query, limit: int, payload: bool) -> None:
        expected = [one if payload else _without_payload(one) for one in self.model.values() if query.matches(one)]
        if query.descending:
            expected.reverse()
        found, cursor = [], None
        while True:
            page = self.storage.scan(query, limit=limit, cursor=cursor, payload=payload)
            found += page.records
            cursor = page.cursor
            if cursor is None:
                break
        assert found == expected

    @rule()
    def reconnect(self) -> None:
        self.storage.disconnect()
        self.storage.connect()

    @invariant()
    def holds_as_many(self) -> None:
        if hasattr(self, "storage"):
            assert len(list(self.storage.records(Query(), payload=False))) == len(self.model)


def _without_payload(record: Record) -> Record:
    return Record(record.ref, b"", record.headers, record.revision)


@pytest.mark.parametrize("adapter", ["MemoryStorage", "FileStorage", "SqlStorage"])
def test_behaves_like_a_dictionary(adapter: str) -> None:
    class OfAdapter(History):
        pass

    OfAdapter.adapter = adapter
    run_state_machine_as_test(
        OfAdapter,
        settings=settings(max_examples=30, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]),
    )
