"""Updates whose answers are lost: done once, or not known to be done."""

from __future__ import annotations

from typing import Any

import pytest

from flowstore import FlowStore, OutcomeUnknownError, UnreachableError
from tests.store.state_adapters import LosingStorage

pytest_plugins = ("tests.store.every_store",)


def lose(flows: FlowStore, *others_work: Any, arrives: bool = True) -> None:
    storage = flows.storage("Results")
    assert isinstance(storage, LosingStorage)
    storage.lost, storage.arrives = list(others_work), arrives


def add_one(flows: FlowStore, answers: list[Any] | None = None) -> Any:
    return flows.variables("flow").update("count", lambda old: old + 1, default=0)


@pytest.mark.parametrize("arrives", [True, False])
def test_an_update_whose_answer_is_lost_is_done_once(arrives: bool, losing: FlowStore) -> None:
    for expected in (1, 2):  # over nothing, and over something
        before = losing.variables("flow").revision("count")
        lose(losing, lambda: None, lambda: None, arrives=arrives)
        assert add_one(losing) == expected
        assert losing.variables("flow")["count"] == expected
        after = losing.variables("flow").revision("count")
        assert after == (before + 1 if before else after)


def test_an_update_that_others_overtook_while_the_line_was_cut_is_done_again(losing: FlowStore) -> None:
    add_one(losing)
    lose(losing, lambda: add_one(losing), arrives=False)
    assert add_one(losing) == 3
    assert losing.variables("flow")["count"] == 3


def test_an_update_that_may_have_been_replaced_already_is_not_done_again(losing: FlowStore) -> None:
    add_one(losing)
    lose(losing, lambda: add_one(losing))
    with pytest.raises(OutcomeUnknownError, match="in between"):
        add_one(losing)
    assert losing.variables("flow")["count"] == 3


def test_an_update_that_may_have_been_deleted_already_is_not_done_again(losing: FlowStore) -> None:
    add_one(losing)
    lose(losing, lambda: losing.variables("flow").delete("count"))
    with pytest.raises(OutcomeUnknownError):
        add_one(losing)
    assert "count" not in losing.variables("flow")


def test_a_storage_that_stays_away_is_unreachable(losing: FlowStore) -> None:
    lose(losing, *[lambda: None] * 100, arrives=False)
    with pytest.raises(UnreachableError) as caught:
        losing.variables("flow")["a"] = 1
    assert caught.value.storage == "Results"
