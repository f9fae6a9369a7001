"""Checkpoints, variables and settings: values by name, in every storage."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from flowstore import (
    ConflictError,
    FlowStore,
    InvalidKeyError,
    NotFoundError,
    SerializationError,
)
from flowstore.store.documents import Documents
from flowstore.testing import Adapter
from flowstore.testing.concurrency import in_processes, in_threads
from tests.storages.places import SHARED, adapter, configuration
from tests.storages.storage_kit import Recipe

pytest_plugins = ("tests.store.every_store", "tests.storages.every_storage")

HOSTILE = ["", " ", "a", "A", "é", "e\u0301", "a/../b", "a\0b", "-lock", "x" * 1000, "{}:*", "None"]
PATIENCE = 240.0


@pytest.fixture
def each(flows: FlowStore) -> Documents:
    """Some values: whose they are, makes no difference."""
    return flows.variables("flow", run_id="run")


# Values


def test_values_come_back_and_nothing_is_told_from_none(each: Documents) -> None:
    values: list[Any] = [None, False, 0, "", [], {"a": [1, (2, {3})]}, b"\0"]
    for value in values:
        each["name"] = value
        assert each["name"] == value
        assert each.get("name", "default") == value
    assert "name" in each
    assert each.get("other", "default") == "default"
    assert each.get("other") is None
    assert "other" not in each
    with pytest.raises(NotFoundError, match="other"):
        each["other"]


def test_names_are_exact_and_listed_in_the_order_of_first_storing(each: Documents) -> None:
    assert (list(each), len(each), list(each.items())) == ([], 0, [])
    for number, name in enumerate(HOSTILE):
        each[name] = number
    each[HOSTILE[0]] = "again"
    assert list(each) == HOSTILE
    assert len(each) == len(HOSTILE)
    assert dict(each.items()) == {**{name: number for number, name in enumerate(HOSTILE)}, HOSTILE[0]: "again"}


@pytest.mark.parametrize("name", [1, None, "\ud800"])
def test_a_name_of_anything_but_text_is_refused(name: Any, memory: FlowStore) -> None:
    with pytest.raises(InvalidKeyError):
        memory.variables("flow")[name] = 1
    with pytest.raises(InvalidKeyError):
        memory.variables("flow").get(name)


def test_what_is_deleted_is_gone(each: Documents) -> None:
    each["a"], each["b"], each["c"] = 1, 2, 3
    del each["a"]
    with pytest.raises(NotFoundError):
        del each["a"]
    assert not each.delete("a")
    assert each.delete("b")
    assert list(each) == ["c"]
    each["a"] = 4
    assert each.clear() == 2
    assert len(each) == 0
    assert each.clear() == 0


def test_a_value_that_cannot_be_stored_leaves_the_one_that_was_there(each: Documents) -> None:
    each["a"] = 1
    with pytest.raises(SerializationError):
        each["a"] = object()
    with pytest.raises(SerializationError):
        each.update("a", lambda _: object())
    assert each["a"] == 1


# Revisions


def test_revisions_grow_by_one_and_guard_writes(each: Documents) -> None:
    assert each.revision("a") == 0
    first = each.set("a", "first", if_revision=0)
    assert each.set("a", "second") == first + 1
    assert each.set("a", "third", if_revision=first + 1) == first + 2
    assert each.revision("a") == first + 2
    for stale in (0, 1, first, first + 1, first + 3):
        with pytest.raises(ConflictError) as caught:
            each.set("a", "never", if_revision=stale)
        assert caught.value.current.revision == first + 2
    with pytest.raises(ConflictError):
        each.set("b", "never", if_revision=1)
    with pytest.raises(ConflictError):
        each.delete("a", if_revision=first + 1)
    assert each["a"] == "third"
    assert each.delete("a", if_revision=first + 2)
    assert "a" not in each


def test_update_gets_what_is_there_or_the_default(each: Documents) -> None:
    assert each.update("a", lambda old: [old]) == [None]
    assert each.update("a", lambda old: [*old, 1]) == [None, 1]
    assert each.update("b", lambda old: old + 1, default=41) == 42
    assert (each["a"], each["b"]) == ([None, 1], 42)


def test_an_update_whose_function_fails_changes_nothing(each: Documents) -> None:
    revision = each.set("a", 1)
    with pytest.raises(ZeroDivisionError):
        each.update("a", lambda old: old / 0)
    assert (each["a"], each.revision("a")) == (1, revision)


def test_no_update_of_many_threads_is_lost(each: Documents) -> None:
    def work(barrier: Any, worker: int) -> None:
        calls = 0

        def add(old: int) -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                barrier.wait()  # all have read the same
            return old + 1

        for _ in range(5):
            each.update("count", add, default=0)
            each.update("seen", lambda old: [*old, worker], default=[])

    first = each.set("count", 0)
    in_threads(work, PATIENCE)
    assert each["count"] == each.revision("count") - first == 40
    assert sorted(each["seen"]) == [worker for worker in range(8) for _ in range(5)]


def test_a_lost_update_would_be_noticed(each: Documents) -> None:
    """Plant the mistake that ``update`` avoids: read, then write whatever is there by then."""

    def work(barrier: Any, worker: int) -> None:
        old = each.get("count", 0)
        barrier.wait()  # all have read
        each["count"] = old + 1

    in_threads(work, PATIENCE)
    assert each["count"] == 1


def test_of_many_threads_one_sets_the_default_and_all_get_it(each: Documents) -> None:
    def never() -> None:
        raise AssertionError("there is a value")

    def work(barrier: Any, worker: int) -> Any:
        barrier.wait()
        return each.get_or_set("name", worker)

    answers = in_threads(work, PATIENCE)
    assert set(answers) == {each["name"]}
    assert len(answers) == 8
    assert each.get_or_set("name", never) == answers[0]
    assert each.get_or_set("other", lambda: "made") == "made"
    assert each.get_or_set("none", None) is None
    assert "none" in each


def count_up(place: Adapter, barrier: Any, worker: int) -> int:
    flows = FlowStore(configuration((place.storage_class.__name__, dict(place.configuration))))
    variables = flows.variables("flow", run_id="run")
    variables["connected"] = True
    barrier.wait()
    for _ in range(10):
        variables.update("count", lambda old: old + 1, default=0)
    flows.close()
    return worker


@pytest.mark.parametrize("kind", SHARED)
def test_no_update_of_many_processes_is_lost(recipe: Recipe) -> None:
    in_processes(adapter(recipe), count_up, PATIENCE, 4)
    flows = FlowStore(configuration(recipe))
    assert flows.variables("flow", run_id="run")["count"] == 40
    flows.close()


# A mapping like a dict


def test_documents_are_a_mapping(each: Documents) -> None:
    each["a"], each["b"] = 1, [2]
    assert isinstance(each, MutableMapping)
    assert dict(each) == {**each} == dict(each.items()) == {"a": 1, "b": [2]}
    assert (list(each), list(each.keys()), list(each.values())) == (["a", "b"], ["a", "b"], [1, [2]])
    assert (len(each.items()), ("a", 1) in each.items(), ("a", 2) in each.items(), "c" in each) == (
        2,
        True,
        False,
        False,
    )
    assert each == {"a": 1, "b": [2]}
    assert each.setdefault("a", 5) == 1
    assert each.setdefault("c", 5) == 5
    assert each.pop("c") == 5
    assert each.pop("c", None) is None
    with pytest.raises(NotFoundError, match=r"\[c\] is stored$"):
        each.pop("c")
    for act in (lambda: each["c"], lambda: each.pop("c"), lambda: each.__delitem__("c")):
        with pytest.raises(KeyError):
            act()
    assert each.popitem() == ("b", [2])
    assert each.popitem() == ("a", 1)
    with pytest.raises(KeyError):
        each.popitem()


def test_of_many_that_pop_one_gets_it(each: Documents) -> None:
    def work(barrier: Any, worker: int) -> list[int]:
        won = []
        for number in range(20):
            if worker == 0:
                each["next"] = number
            barrier.wait()
            if (got := each.pop("next", None)) is not None:
                won.append(got)
            barrier.wait()
        return won

    won = in_threads(work, PATIENCE)
    assert sorted(number for mine in won for number in mine) == list(range(20))


def test_a_default_is_never_changed(each: Documents) -> None:
    default: list[int] = []
    assert each.update("a", lambda old: old.append(1) or old, default) == [1]
    each.setdefault("b", default).append(2)
    each.get_or_set("c", default).append(3)
    assert default == []


def test_a_value_that_was_deleted_and_set_anew_is_another_one(each: Documents) -> None:
    """A stale update, set or delete never wins over what somebody else has set since."""
    each["x"] = 100
    calls = 0

    def add(old: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            each.delete("x")
            each["x"] = 7
        return old + 1

    assert each.update("x", add) == each["x"] == 8
    stale = each.set("y", "old")
    each.delete("y")
    each["y"] = "other"
    with pytest.raises(ConflictError):
        each.set("y", "mine", if_revision=stale)
    with pytest.raises(ConflictError):
        each.delete("y", if_revision=stale)
    assert each["y"] == "other"
