"""Of eight processes that want the same, one gets it, and what all of them see fits one order of events."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

import flowstore.storages
from flowstore.errors import UnreachableError
from flowstore.record import Key
from flowstore.testing import Adapter, record
from flowstore.testing.concurrency import PROCESSES, in_processes
from tests.reliability import work
from tests.reliability.figures import Figures
from tests.reliability.linear import Operation, is_linearizable
from tests.storages.places import SHARED
from tests.storages.storage_kit import Recipe

pytest_plugins = ("tests.storages.every_storage",)

DEADLINE = 3600.0
ABSENT = "put if absent, 8 processes: rounds, those without exactly one winner"
REVISION = "compare and set, 8 processes: rounds, those without exactly one winner"
ORDER = "linearizability of single records, 8 processes: operations, records without a possible order"


def raced(adapter: Adapter) -> tuple[int, int, list[list[Operation]]]:
    """Return the wrong rounds of both races, and the histories."""
    told = in_processes(adapter, work.race, DEADLINE)
    absent, revisions, histories = zip(*told, strict=True)
    merged = [list(chain.from_iterable(of_key)) for of_key in zip(*histories, strict=True)]
    return work.wrong_rounds(absent), work.wrong_rounds(revisions), merged


@pytest.mark.parametrize("kind", SHARED)
def test_processes_race(kind: str, recipe: Recipe, figures: Figures) -> None:
    name, configuration = recipe
    absent, revisions, histories = raced(Adapter(getattr(flowstore.storages, name), configuration))
    bad = sum(not is_linearizable(history) for history in histories)
    figures.note(ABSENT, kind, rounds=work.ROUNDS, wrong=absent)
    figures.note(REVISION, kind, rounds=work.ROUNDS, wrong=revisions)
    figures.note(ORDER, kind, operations=sum(map(len, histories)), records=len(histories), wrong=bad)
    assert (absent, revisions, bad) == (0, 0, 0)
    assert sum(map(len, histories)) == PROCESSES * work.KEYS * work.OPERATIONS


def test_the_races_find_an_adapter_that_looks_first(tmp_path: Path, figures: Figures) -> None:
    connection = f"sqlite:///{tmp_path}/records.db"
    absent, revisions, histories = raced(Adapter(work.LooksFirst, {"connection_string": connection}))
    bad = sum(not is_linearizable(history) for history in histories)
    bug = "looking and writing in two steps"
    figures.planted(ABSENT, bug, rounds=work.ROUNDS, wrong=absent)
    figures.planted(REVISION, bug, rounds=work.ROUNDS, wrong=revisions)
    figures.planted(ORDER, bug, records=len(histories), wrong=bad)
    assert absent > 0
    assert revisions > 0
    assert bad > 0


def test_the_histories_find_a_stale_cache(tmp_path: Path, figures: Figures) -> None:
    connection = f"sqlite:///{tmp_path}/records.db"
    _, _, histories = raced(Adapter(work.Stale, {"connection_string": connection}))
    bad = sum(not is_linearizable(history) for history in histories)
    figures.planted(ORDER, "a stale cache", records=len(histories), wrong=bad)
    assert bad > 0


def test_a_conditional_write_ends_where_reads_lag_behind_writes(tmp_path: Path) -> None:
    key = Key("f", "t", "1")
    with Adapter(work.Lagging, {"connection_string": f"sqlite:///{tmp_path}/records.db"}).opened() as storage:
        storage.put(record(key, "first"))
        seen = storage.get(key).revision
        storage.put(record(key, "second"))
        with pytest.raises(UnreachableError, match="lag behind"):
            storage.put(record(key, "third"), if_revision=seen)


GOOD = [
    Operation(0, 10, "put", "a", None, 1),
    Operation(5, 20, "get", "", None, None),  # may have come before the put
    Operation(12, 30, "put", "b", 1, 2),
    Operation(15, 25, "put", "c", 1, None),
    Operation(31, 40, "get", "", None, (2, "b")),
    Operation(41, 50, "delete", "", None, True),
    Operation(51, 60, "get", "", None, None),
]
BUGS = {
    "a read of what was replaced before it began": (4, Operation(31, 40, "get", "", None, (1, "a"))),
    "a write that nobody sees": (6, Operation(51, 60, "get", "", None, (2, "b"))),
    "two winners": (3, Operation(15, 25, "put", "c", 1, 2)),
    "a revision that is skipped": (2, Operation(12, 30, "put", "b", 1, 3)),
    "a revision that comes again": (6, Operation(51, 60, "put", "d", None, 1)),
    "a conflict without a reason": (0, Operation(0, 10, "put", "a", None, None)),
    "a delete that found nothing": (5, Operation(41, 50, "delete", "", None, False)),
    "a value that was never stored": (4, Operation(31, 40, "get", "", None, (2, "x"))),
}


def test_the_checker_finds_planted_bugs(figures: Figures) -> None:
    assert is_linearizable(GOOD)
    caught = [not is_linearizable([*GOOD[:at], wrong, *GOOD[at + 1 :]]) for at, wrong in BUGS.values()]
    figures.planted(ORDER, "histories made by hand", planted=len(BUGS), caught=sum(caught))
    assert all(caught)
