"""A cleanup beside writers deletes nothing that was stored after it had looked.

FLOWSTORE_TEST_CONTESTS=10000 pytest tests/reliability/test_deletes.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flowstore.storages
from flowstore.record import CLAIM, Key, Record, Ref
from flowstore.storages import SqlStorage
from flowstore.testing import Adapter, record
from flowstore.testing.concurrency import in_processes
from tests.reliability.figures import Figures
from tests.storages.places import SHARED
from tests.storages.storage_kit import Recipe

pytest_plugins = ("tests.storages.every_storage",)

CONTESTS = int(os.environ.get("FLOWSTORE_TEST_CONTESTS", "400"))
ROUND = 200
ATTEMPTS = 20
"""How often the planted bug is looked for: on a busy machine the two may not meet in one."""
DEADLINE = 3600.0
LOST = "cleanup beside writers: contests, deleted by the cleanup, acknowledged and lost"


class DeletesWhateverIsThere(SqlStorage):
    """Deletes by the reference alone what it has seen."""

    def _delete_seen(self, records: Sequence[Record]) -> int:
        return self._delete_many([one.ref for one in records])


def keys_of(round_number: int) -> list[Key]:
    return [Key("contest", str(round_number), str(number)) for number in range(ROUND)]


def contend(adapter: Adapter, barrier: Any, worker: int) -> tuple[int, int]:
    """Clean up, or take over what is about to be cleaned up; return how many were deleted, and how many lost."""
    deleted = lost = 0
    with adapter.opened() as storage:
        for number in range(CONTESTS // ROUND):
            keys = keys_of(number)
            mine: list[Key] = []
            if worker:
                past = storage.now() - 60
                storage.put_many([record(key, None, CLAIM, "lock", owner="gone", expires_at=past) for key in keys])
            barrier.wait()
            if worker:
                # From the end: the two meet somewhere, and what the cleanup has looked at is taken over meanwhile.
                mine = [key for key in reversed(keys) if storage.claim(key, "lock", owner="me", expires_in="1h")]
            else:
                deleted += storage.cleanup(batch=50)
            barrier.wait()
            if worker:
                lost += ROUND - len(mine)
                lost += storage.get_many([Ref(CLAIM, key, "lock") for key in mine]).count(None)
    return deleted, lost


def contended(adapter: Adapter) -> tuple[int, int]:
    told = in_processes(adapter, contend, DEADLINE, 2)
    return sum(deleted for deleted, _ in told), sum(lost for _, lost in told)


@pytest.mark.parametrize("kind", SHARED)
def test_a_cleanup_beside_writers_loses_nothing(kind: str, recipe: Recipe, figures: Figures) -> None:
    name, configuration = recipe
    deleted, lost = contended(Adapter(getattr(flowstore.storages, name), configuration))
    figures.note(LOST, kind, contests=CONTESTS, deleted=deleted, lost=lost)
    assert lost == 0


def test_the_contests_find_an_adapter_that_deletes_whatever_is_there(tmp_path: Path, figures: Figures) -> None:
    attempt = deleted = lost = 0
    for attempt in range(1, ATTEMPTS + 1):
        connection = {"connection_string": f"sqlite:///{tmp_path}/{attempt}.db", "synchronous": "NORMAL"}
        deleted, lost = contended(Adapter(DeletesWhateverIsThere, connection))
        if lost:
            break
    counts = {"contests": attempt * CONTESTS, "deleted": deleted, "lost": lost}
    figures.planted(LOST, "deleting by the reference alone", **counts)
    assert lost > 0
