"""What the processes of the tests do, and adapters with planted bugs for them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from typing import Any

from flowstore.errors import ConflictError, NotFoundError
from flowstore.record import RESULT, Key, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.storages import SqlStorage
from flowstore.testing import Adapter, record
from flowstore.testing.races import wins
from tests.reliability.linear import Operation

ROUNDS = int(os.environ.get("FLOWSTORE_TEST_ROUNDS", "20"))
KEYS = 3
OPERATIONS = 16  # of each process on each key


class LooksFirst(SqlStorage):
    """Decides in one step whether a put may be done, and does it in another."""

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        current = self._get(record.ref, False)
        if if_revision is not None and if_revision != (current.revision if current else 0):
            raise ConflictError("there is another revision", current)
        time.sleep(0.001)
        return super()._put(record, None, now)


class Stale(SqlStorage):
    """Answers from a cache that nobody tells of others' writes."""

    def connect(self) -> None:
        super().connect()
        self._kept: dict[Key, Record] = {}

    def get(self, key: Key, kind: str = RESULT, name: str = "", *, payload: bool = True) -> Record:
        if key not in self._kept:
            self._kept[key] = super().get(key, kind, name, payload=payload)
        return self._kept[key]


class Lagging(SqlStorage):
    """Reads what was stored first, as from a replica that no longer follows."""

    def connect(self) -> None:
        super().connect()
        self._kept: dict[Ref, Record | None] = {}

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        if ref not in self._kept:
            self._kept[ref] = super()._get(ref, payload)
        return self._kept[ref]


class Forgetful(SqlStorage):
    """Forgets every third record that it stores."""

    _stored = 0

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        revision = super()._put(record, if_revision, now)
        self._stored += 1
        if self._stored % 3 == 0:
            super()._delete(record.ref, None)
        return revision


def race(adapter: Adapter, barrier: Any, worker: int) -> tuple[list[bool], list[bool], list[list[Operation]]]:
    """Take part in the races for absent records and for revisions, then in histories of single records."""
    with adapter.opened() as storage:
        absent = [wins(storage, barrier, Key("absent", "t", str(number)), worker, 0) for number in range(ROUNDS)]
        revisions = _revisions(storage, barrier, worker)
        histories = [_history(storage, barrier, Key("history", "t", str(key)), worker) for key in range(KEYS)]
    return absent, revisions, histories


def _revisions(storage: RecordStorage, barrier: Any, worker: int) -> list[bool]:
    key = Key("revision", "t", "1")
    won = [wins(storage, barrier, key, worker, 0)]
    first = storage.get(key).revision
    return won + [wins(storage, barrier, key, worker, first + number) for number in range(ROUNDS - 1)]


def _history(storage: RecordStorage, barrier: Any, key: Key, worker: int) -> list[Operation]:
    chance = random.Random(f"{key} {worker}")
    known = 0
    history = []
    barrier.wait()
    for number in range(OPERATIONS):
        name = chance.choices(("get", "put", "put if", "delete"), (4, 2, 4, 1))[0]
        value = f"{worker}.{number}"
        expected = known if name == "put if" else None
        began = time.monotonic_ns()
        answer, known = _done(storage, key, name, value, expected, known)
        history.append(Operation(began, time.monotonic_ns(), name, value, expected, answer))
    return history


def _done(
    storage: RecordStorage, key: Key, name: str, value: str, expected: int | None, known: int
) -> tuple[object, int]:
    """Do one operation; return its answer, and the revision that is known afterwards."""
    if name == "delete":
        return storage.delete(key), 0
    if name == "get":
        try:
            found = storage.get(key)
        except NotFoundError:
            return None, 0
        return (found.revision, storage.pipeline.decode(found)), found.revision
    try:
        revision = storage.put(record(key, value), if_revision=expected).revision
    except ConflictError as exc:
        return None, exc.current.revision if exc.current else 0
    return revision, revision


def wrong_rounds(won: Sequence[Sequence[bool]]) -> int:
    """Return in how many rounds the number of winners was not one."""
    return sum(sum(one_round) != 1 for one_round in zip(*won, strict=True))
