"""Random histories, against adapters and against a dictionary with a clock of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from flowstore.errors import ConflictError, ExpiredError, NotFoundError
from flowstore.record import JSON, Key, Query, Record, Ref
from flowstore.storage import QueriesFields, RecordStorage
from tests.storages.storage_kit import Recipe, make

PARTS = ["", "a", "A", "a ", "a:b", "b:c", "é", "e\u0301", "x\0"]
# Few, so that histories come back to each of them.
REFS = st.sampled_from(
    [Ref("result", Key(part, "t", "1")) for part in PARTS]
    + [Ref("result", Key("a", "t", "2")), Ref("result", Key("a", "u", "1")), Ref("result", Key("a", "t", "1"), "1")]
    + [Ref("error", Key("a", "t", "1")), Ref("error", Key("a", "t", "1"), "1"), Ref("Own/kind", Key("a", "t", "1"))]
)
RUNS = st.sampled_from([None, "r", "s"])
PAYLOADS = st.binary(max_size=20) | st.sampled_from([b"{}", b'{"a":1}', b"null", b"\n\n", b"x" * 20_000])
# Seconds from now, on the history's own clock; none, in the past, and at two times to come.
LIVES = st.sampled_from([None, None, -1.0, 10.0, 20.0])
EXPECTED = st.sampled_from([None, None, 0, "current", "stale"])
FACTS = st.fixed_dictionaries(
    {
        "run_id": RUNS,
        "state": st.sampled_from([None, "SUCCESS", "FAILURE"]),
        "stored_at": st.sampled_from([None, 10.0, 20.0, 30.0, 40.0]),
        "content_type": st.sampled_from([None, JSON]),
        "expires_at": LIVES,
    }
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "kinds": st.sampled_from([("result",), ("error", "Own/kind")]),
    "flow_name": st.sampled_from(PARTS),
    "task_name": st.just("t"),
    "task_id": st.just("1"),
    "run_id": st.sampled_from(["r", "s"]),
    "task_ids": st.sampled_from([(), ("1",), ("2", "1")]),
    "states": st.sampled_from([("SUCCESS",), ("FAILURE", "SUCCESS")]),
    "stored_from": st.just(20.0),
    "stored_before": st.just(40.0),
    "pattern": st.sampled_from(["1", "?*", "*2", "a*"]),
    "where": st.just({"a": 1}),
}
# Few fields at once: a query that selects nothing tells little.
QUERIES = st.builds(
    lambda fields, descending, order, skip: Query(**fields, descending=descending, order=order, skip=skip),
    st.lists(st.sampled_from(sorted(FIELDS)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
    ),
    st.booleans(),
    st.sampled_from(["stored", "task_id"]),
    st.sampled_from([0, 0, 1, 3]),
)


class History(RuleBasedStateMachine):
    """A dictionary keeps its order when a value is replaced: that of first storing."""

    adapter: ClassVar[str]
    asks_fields: ClassVar[bool] = True

    def recipe(self) -> Recipe:
        if self.adapter == "MemoryStorage":
            return self.adapter, {}
        if self.adapter == "FileStorage":
            return self.adapter, {"path": f"{self.folder}/records", "durable": False}
        return self.adapter, {"connection_string": f"sqlite:///{self.folder}/records.db", "synchronous": "NORMAL"}

    def instance(self) -> RecordStorage:
        return make(self.recipe())

    @initialize()
    def start(self) -> None:
        # Not pytest's folder: each history needs its own.
        self.folder = tempfile.mkdtemp()
        self.storage = self.instance()
        self.storage.connect()
        self.model: dict[Ref, Record] = {}
        self.given: set[tuple[Ref, int]] = set()
        self.clock = self.storage.now()
        self.storage.now = lambda: self.clock  # type: ignore[method-assign]

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.storage.disconnect()
            shutil.rmtree(self.folder)

    def live(self, ref: Ref) -> Record | None:
        found = self.model.get(ref)
        return None if found is None or found.has_expired(self.clock) else found

    def revision(self, found: Record | None, expected: object) -> int | None:
        now = found.revision if found else 0
        return now if expected == "current" else now + 1 if expected == "stale" else 0 if expected == 0 else None

    def record(self, ref: Ref, payload: bytes, facts: dict[str, Any]) -> Record:
        headers = {name: value for name, value in facts.items() if value is not None}
        if "expires_at" in headers:
            headers["expires_at"] += self.clock
        return Record(ref, payload, {"token": os.urandom(8).hex(), **headers})

    def stored(self, record: Record, found: Record) -> Record:
        """Take what was stored into the model; return what it should be."""
        old = self.model.get(record.ref)
        assert (found.ref, found.revision) not in self.given, "a revision came again"
        self.given.add((found.ref, found.revision))
        self.model[record.ref] = record.at(old.revision + 1 if old else found.revision)
        return self.model[record.ref]

    @rule(seconds=st.sampled_from([1.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.clock += seconds

    @rule(ref=REFS, payload=PAYLOADS, facts=FACTS, expected=EXPECTED)
    def put(self, ref: Ref, payload: bytes, facts: dict[str, Any], expected: object) -> None:
        record, live = self.record(ref, payload, facts), self.live(ref)
        if_revision = self.revision(live, expected)
        if if_revision not in (None, live.revision if live else 0):
            with pytest.raises(ConflictError) as caught:
                self.storage.put(record, if_revision=if_revision)
            assert caught.value.current == live
        else:
            found = self.storage.put(record, if_revision=if_revision)
            assert found == self.stored(record, found)

    @rule(refs=st.lists(REFS, max_size=5, unique=True), payload=PAYLOADS, facts=FACTS)
    def put_many(self, refs: list[Ref], payload: bytes, facts: dict[str, Any]) -> None:
        before = list(self.model)
        records = [self.record(ref, payload, facts) for ref in refs]
        found = self.storage.put_many(records)
        assert found == [self.stored(record, one) for record, one in zip(records, found, strict=True)]
        # The new ones come last; their order among each other is not promised.
        order = [one.ref for one in self.storage.records(Query(live_at=0.0), payload=False)]
        assert order[: len(before)] == before
        assert set(order) == set(self.model)
        self.model = {ref: self.model[ref] for ref in order}

    @rule(ref=REFS, expected=EXPECTED)
    def delete(self, ref: Ref, expected: object) -> None:
        if_revision = self.revision(self.model.get(ref), expected)
        if ref in self.model and if_revision not in (None, self.model[ref].revision):
            with pytest.raises(ConflictError) as caught:
                self.storage.delete(ref.key, ref.kind, ref.name, if_revision=if_revision)
            assert caught.value.current.ref == ref
        else:
            found = self.model.pop(ref, None)
            assert self.storage.delete(ref.key, ref.kind, ref.name, if_revision=if_revision) == (found is not None)

    @rule(refs=st.lists(REFS, max_size=5))
    def delete_many(self, refs: list[Ref]) -> None:
        found = {ref for ref in refs if self.model.pop(ref, None) is not None}
        assert self.storage.delete_many(refs) == len(found)

    @rule(refs=st.lists(REFS, max_size=5, unique=True), stale=st.booleans())
    def delete_seen(self, refs: list[Ref], stale: bool) -> None:
        seen = [self.model[ref].at(self.model[ref].revision - stale) for ref in refs if ref in self.model]
        assert self.storage.delete_seen(seen) == (0 if stale else len(seen))
        for one in seen:
            if not stale:
                del self.model[one.ref]

    @rule()
    def cleanup(self) -> None:
        gone = [ref for ref in self.model if self.live(ref) is None]
        found = [one.ref for one in self.storage.records(Query(expired_at=self.clock), payload=False)]
        assert found == gone
        assert self.storage.delete_many(found) == len(gone)
        for ref in gone:
            del self.model[ref]

    @rule(ref=REFS)
    def delete_task(self, ref: Ref) -> None:
        # What has expired is cleanup's.
        assume(all(self.live(other) for other in self.model if other.key == ref.key))
        mine = [other for other in self.model if other.key == ref.key]
        assert self.storage.delete_task(ref.key) == len(mine)
        for other in mine:
            del self.model[other]

    @rule(ref=REFS, payload=st.booleans())
    def get(self, ref: Ref, payload: bool) -> None:
        expected = self.live(ref)
        if expected is None:
            with pytest.raises(ExpiredError if ref in self.model else NotFoundError):
                self.storage.get(ref.key, ref.kind, ref.name, payload=payload)
        else:
            found = self.storage.get(ref.key, ref.kind, ref.name, payload=payload)
            assert found == (expected if payload else _without_payload(expected))

    @rule(refs=st.lists(REFS, max_size=5))
    def get_many(self, refs: list[Ref]) -> None:
        assert self.storage.get_many(refs) == [self.live(ref) for ref in refs]

    def selected(self, query: Query, expired: bool) -> tuple[Query, list[Record]]:
        """Complete a query by the time; return it and what it has to find, in ascending order."""
        if not (self.asks_fields and isinstance(self.storage, QueriesFields)):
            query = replace(query, where=None)
        dated = replace(query, expired_at=self.clock) if expired else replace(query, live_at=self.clock)
        return dated if expired else query, [one for one in self.model.values() if dated.matches(one)]

    @rule(query=QUERIES, expired=st.booleans())
    def count(self, query: Query, expired: bool) -> None:
        query, expected = self.selected(query, expired)
        assert self.storage.count(query) == len(expected)

    @rule(query=QUERIES, expired=st.booleans(), limit=st.integers(1, 5), payload=st.booleans())
    def scan(self, query: Query, expired: bool, limit: int, payload: bool) -> None:
        query, found_whole = self.selected(query, expired)
        expected = found_whole if payload else [_without_payload(one) for one in found_whole]
        if query.order == "task_id":
            expected.sort(key=lambda one: one.ref.sort_key)
        if query.descending:
            expected.reverse()
        del expected[: query.skip]
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
            expired = self.storage.count(Query(expired_at=self.clock))
            assert self.storage.count(Query()) + expired == len(self.model)


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
