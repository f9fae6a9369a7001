"""Expiry: an expired record is gone, everywhere from the same instant."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import ConflictError, ExpiredError, NotFoundError
from flowstore.record import ERROR, RESULT, Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.base import Adapter, AdapterTests, not_offered
from flowstore.testing.samples import KEY, record

MINUTE = 60.0
HOUR = 60 * MINUTE
OTHER = Key("flow", "task", "live")


def expired(
    storage: RecordStorage, key: Key = KEY, value: object = "expired", ago: float = 1.0, **facts: Any
) -> Record:
    """Store a record that expired ``ago`` seconds ago."""
    return storage.put(record(key, value, expires_at=storage.now() - ago, **facts))


class ExpiryTests(AdapterTests):
    """Reads, conditions, listings and cleanup agree on what has expired."""

    aspect = "expiry"

    def test_distinguishes_expired_from_never_stored(self, storage: RecordStorage) -> None:
        """An expired record is reported as one that was never stored.

        Waiting can only help for the latter. A server that removes expired records must keep them for a day.
        """
        expired(storage)
        with pytest.raises(ExpiredError):
            storage.get(KEY)
        with pytest.raises(ExpiredError):
            storage.retrieve("flow", "task", "1")
        with pytest.raises(ExpiredError):
            storage.get(KEY, payload=False)
        with pytest.raises(NotFoundError):
            storage.get(OTHER)

    def test_keeps_what_has_not_expired(self, storage: RecordStorage) -> None:
        """A record expired too early, or without an expiry time."""
        storage.put(record(KEY, 1, expires_at=storage.now() + HOUR))
        storage.put(record(OTHER, 2, expires_at=None))
        assert storage.retrieve("flow", "task", "1") == 1
        assert storage.retrieve("flow", "task", "live") == 2
        assert storage.count(Query()) == 2
        assert storage.count(Query(expired_at=storage.now())) == 0

    def test_gets_none_for_an_expired_record_of_a_batch(self, storage: RecordStorage) -> None:
        """A batch returns an expired record that the single call refuses."""
        expired(storage)
        storage.put(record(OTHER, "live"))
        found = storage.get_many([Ref(RESULT, KEY), Ref(RESULT, OTHER)])
        assert [one and one.key for one in found] == [None, OTHER]

    def test_listings_leave_out_what_has_expired(self, storage: RecordStorage) -> None:
        """An expired record is listed or counted, or hides a live one.

        ``expired_at`` must select exactly the expired records.
        """
        for number in range(10):
            key = Key("flow", "task", str(number))
            if number % 2:
                expired(storage, key, run_id="r")
            else:
                storage.put(record(key, number, run_id="r"))
        now = storage.now()
        for fields in ({}, {"run_id": "r"}, {"flow_name": "flow", "kinds": (RESULT,)}):
            for descending in (False, True):
                live = Query(**fields, descending=descending)
                gone = Query(**fields, descending=descending, expired_at=now)
                order = -1 if descending else 1
                assert [one.key.task_id for one in storage.records(live)] == ["0", "2", "4", "6", "8"][::order]
                assert [one.key.task_id for one in storage.records(gone)] == ["1", "3", "5", "7", "9"][::order]
                assert len(storage.scan(live, limit=5).records) == 5, "the limit counts what is not listed"
                assert (storage.count(live), storage.count(gone)) == (5, 5)
        assert storage.count(Query(live_at=now - HOUR)) == 10

    def test_the_boundary_is_exact(self, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """A record does not expire exactly at ``expires_at``: a time is rounded."""
        now = storage.now()
        monkeypatch.setattr(type(storage), "now", lambda _: now)
        later = math.nextafter(now, math.inf)
        expiring, living = storage.put_many([record(KEY, 1, expires_at=now), record(OTHER, 2, expires_at=later)])
        assert [one.key for one in storage.records(Query())] == [OTHER]
        assert [one.key for one in storage.records(Query(expired_at=now))] == [KEY]
        assert (storage.count(Query()), storage.count(Query(expired_at=now))) == (1, 1)
        assert storage.get_many([expiring.ref, living.ref]) == [None, living]
        assert storage.get(OTHER).expires_at == later
        with pytest.raises(ExpiredError):
            storage.get(KEY)
        assert storage.put(record(KEY, "new"), if_revision=0).revision == expiring.revision + 1
        with pytest.raises(ConflictError):
            storage.put(record(OTHER, "new"), if_revision=0)

    def test_stores_if_what_is_there_has_expired(self, storage: RecordStorage) -> None:
        """An expired record blocks a new one, or the revision starts again.

        The revision must grow, so that a stale writer of the old record does not win.
        """
        first = expired(storage, run_id="old").revision
        assert expired(storage, run_id="old").revision == first + 1
        assert storage.put(record(KEY, "new", run_id="new"), if_revision=0).revision == first + 2
        assert storage.retrieve("flow", "task", "1") == "new"
        assert storage.count(Query(run_id="old", expired_at=storage.now())) == 0
        with pytest.raises(ConflictError) as caught:
            storage.put(record(KEY, "newer"), if_revision=0)
        assert pipeline.decode(caught.value.current) == "new"

    def test_does_not_replace_the_revision_of_an_expired_record(self, storage: RecordStorage) -> None:
        """A write replaced the revision of an expired record.

        The conflict must carry no record.
        """
        revision = expired(storage).revision
        with pytest.raises(ConflictError) as caught:
            storage.put(record(KEY, "new"), if_revision=revision)
        assert caught.value.current is None
        with pytest.raises(ExpiredError):
            storage.get(KEY)

    def test_replaces_an_expired_record(self, storage: RecordStorage) -> None:
        """A record that replaced an expired one has the old one's expiry time."""
        first = expired(storage).revision
        assert storage.put(record(KEY, "new")).revision == first + 1
        assert storage.retrieve("flow", "task", "1") == "new"
        expired(storage)
        assert storage.put_many([record(KEY, "newer", expires_at=storage.now() + HOUR)])[0].revision == first + 3
        assert storage.retrieve("flow", "task", "1") == "newer"
        assert storage.count(Query(expired_at=storage.now())) == 0

    def test_cleanup_reclaims_what_has_expired(self, storage: RecordStorage) -> None:
        """Expired records can't be found and deleted, or live ones are deleted."""
        for number in range(7):
            expired(storage, Key("flow", "task", str(number)), run_id="r")
        storage.put(record(OTHER, "live"))
        storage.put(record(OTHER, "soon", ERROR, expires_at=storage.now() + HOUR))
        page = storage.scan(Query(expired_at=storage.now()), limit=5, payload=False)
        assert storage.delete_many([one.ref for one in page.records]) == 5
        rest = storage.scan(Query(expired_at=storage.now()), limit=5, payload=False)
        assert storage.delete_many([one.ref for one in rest.records]) == 2
        assert storage.count(Query(expired_at=storage.now())) == 0
        assert storage.count(Query()) == 2
        with pytest.raises(NotFoundError):
            storage.get(Key("flow", "task", "0"))


class ServerClockTests(AdapterTests):
    """If the server's clock decides, a client's clock may be wrong."""

    aspect = "server clock"

    @pytest.mark.parametrize("error", [HOUR, -HOUR], ids=["fast", "slow"])
    @pytest.mark.parametrize("when", ["before connecting", "after connecting"])
    def test_a_wrong_clock_changes_nothing(
        self, adapter: Adapter, storage: RecordStorage, monkeypatch: pytest.MonkeyPatch, error: float, when: str
    ) -> None:
        """A client's fast or slow clock makes records expire early or late."""
        if type(storage).now is RecordStorage.now:
            not_offered("the adapter has no clock but the process's")
        if "instances" in self.lacks:
            not_offered("there are no two clients to compare")
        storage.put(record(OTHER, "live", expires_at=storage.now() + HOUR / 2))
        # Two clients may differ by what the server's answer leaves open: whole seconds, for some.
        past = expired(storage, ago=MINUTE).revision
        clock = time.time
        with adapter.opened() as early:
            monkeypatch.setattr(time, "time", lambda: clock() + error)
            with adapter.opened() as late:
                wrong = late if when == "before connecting" else early
                assert abs(wrong.now() - storage.now()) < MINUTE
                assert wrong.retrieve("flow", "task", "live") == "live"
                with pytest.raises(ExpiredError):
                    wrong.get(KEY)
                assert [one.key for one in wrong.records(Query())] == [OTHER]
                with pytest.raises(ConflictError):
                    wrong.put(record(OTHER, "new"), if_revision=0)
                assert wrong.put(record(KEY, "new"), if_revision=0).revision == past + 1
