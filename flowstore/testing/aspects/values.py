"""Values in, values out: what every adapter promises, with the six methods of ``DataStorage``."""

from __future__ import annotations

from typing import Any

import pytest

from flowstore.errors import NotFoundError
from flowstore.storage import DataStorage, keeps_errors
from flowstore.testing.base import AdapterTests, not_offered
from flowstore.testing.samples import HOSTILE, JOINED, PLAIN_VALUES


def misses(storage: DataStorage) -> tuple[type[Exception], ...]:
    """Return the errors by which an adapter tells that there is no result."""
    return (NotFoundError, *storage.not_found_errors)


class ValueTests(AdapterTests):
    """What was stored comes back, under its own key and no other."""

    aspect = "values"

    @pytest.mark.parametrize("value", PLAIN_VALUES, ids=repr)
    def test_gives_back_what_was_stored(self, storage: Any, value: object) -> None:
        """The next task gets another value, or another type, than the last one returned."""
        storage.store("flow", "task", "1", value)
        found = storage.retrieve("flow", "task", "1")
        assert found == value
        assert type(found) is type(value)

    def test_tells_that_nothing_is_stored(self, storage: Any) -> None:
        """A miss is an error of its own: ``None`` is a result like any other."""
        with pytest.raises(misses(storage)):
            storage.retrieve("flow", "task", "1")
        storage.store("flow", "task", "1", None)
        assert storage.retrieve("flow", "task", "1") is None

    @pytest.mark.parametrize("names", [("other", "task", "1"), ("flow", "other", "1"), ("flow", "task", "2")])
    def test_does_not_find_another_key(self, storage: Any, names: tuple[str, str, str]) -> None:
        """A key is all three names. An adapter that looks at the task's id alone gives one flow another's results."""
        storage.store("flow", "task", "1", "mine")
        with pytest.raises(misses(storage)):
            storage.retrieve(*names)
        storage.store(*names, "another's")
        assert storage.retrieve("flow", "task", "1") == "mine"
        assert storage.retrieve(*names) == "another's"

    def test_replaces_what_was_stored_under_the_same_key(self, storage: Any) -> None:
        """A task that is delivered twice stores twice: that is neither an error nor a second result."""
        for value in ("old and longer", "new", "new", {"a": 1}):
            storage.store("flow", "task", "1", value)
            assert storage.retrieve("flow", "task", "1") == value

    def test_retrieves_repeatedly(self, storage: Any) -> None:
        """A result may have several readers: reading doesn't use it up, and each gets an object of its own."""
        storage.store("flow", "task", "1", {"a": [1]})
        storage.retrieve("flow", "task", "1")["a"].append(2)
        assert storage.retrieve("flow", "task", "1") == {"a": [1]}, "a reader changed what the next one gets"

    def test_does_not_keep_the_callers_object(self, storage: Any) -> None:
        """What a task does to its value after storing it must not reach what was stored."""
        value = {"a": [1]}
        storage.store("flow", "task", "1", value)
        value["a"].append(2)
        assert storage.retrieve("flow", "task", "1") == {"a": [1]}

    @pytest.mark.parametrize("position", [0, 1, 2], ids=["flow_name", "task_name", "task_id"])
    def test_keeps_results_of_hostile_keys_apart(self, storage: Any, position: int) -> None:
        """Names differ by case, a trailing blank, an accent's encoding; some look like a path or a statement."""
        names = [tuple(part if place == position else "x" for place in range(3)) for part in HOSTILE]
        for number, name in enumerate(names):
            storage.store(*name, number)
        assert [storage.retrieve(*name) for name in names] == list(range(len(names)))

    def test_keeps_results_apart_whose_keys_look_alike_when_joined(self, storage: Any) -> None:
        """Names joined by a separator are ambiguous where a name holds the separator."""
        for number, key in enumerate(JOINED):
            storage.store(key.flow_name, key.task_name, key.task_id, number)
        found = [storage.retrieve(key.flow_name, key.task_name, key.task_id) for key in JOINED]
        assert found == list(range(len(JOINED)))

    def test_keeps_large_values(self, storage: Any) -> None:
        """A few megabytes are an ordinary result."""
        value = {"text": "é" * 1_000_000, "list": list(range(100_000))}
        storage.store("flow", "task", "1", value)
        assert storage.retrieve("flow", "task", "1") == value


class ErrorTests(AdapterTests):
    """How a task failed is kept, apart from its result."""

    aspect = "errors"

    def test_keeps_the_error_beside_the_result(self, storage: Any) -> None:
        """A task that failed and then succeeded has both; an error in the result's place ends up as a result."""
        if not keeps_errors(storage):
            not_offered("the adapter does not define store_error")
        storage.store("flow", "task", "1", "result")
        for task_id in ("1", "2"):
            try:
                raise ValueError("bad é")
            except ValueError as exc:
                exc_info = (ValueError, exc, exc.__traceback__)
                storage.store_error({"args": [object()], "kwargs": {}}, "flow", "task", task_id, exc_info)
        assert storage.retrieve("flow", "task", "1") == "result"
        with pytest.raises(misses(storage)):
            storage.retrieve("flow", "task", "2")


class InstanceTests(AdapterTests):
    """What one instance stores, another one with the same configuration sees at once."""

    aspect = "instances"

    def test_another_instance_sees_what_was_stored(self, adapter: Any, storage: Any) -> None:
        """It was not stored, or stays in this instance until later: other workers don't see it."""
        storage.store("flow", "task", "1", {"a": 1})
        with adapter.opened() as other:
            assert other.retrieve("flow", "task", "1") == {"a": 1}

    def test_sees_what_another_instance_replaced(self, adapter: Any, storage: Any) -> None:
        """An adapter that keeps what it read gives stale results; caching is flowstore's, and can be turned off."""
        storage.store("flow", "task", "1", "old")
        assert storage.retrieve("flow", "task", "1") == "old"
        with adapter.opened() as other:
            other.store("flow", "task", "1", "new")
            assert storage.retrieve("flow", "task", "1") == "new"
            storage.store("flow", "task", "1", "newer")
            assert other.retrieve("flow", "task", "1") == "newer"

    def test_sees_what_another_instance_stored_after_a_miss(self, adapter: Any, storage: Any) -> None:
        """That there is nothing must not be remembered either."""
        with pytest.raises(misses(storage)):
            storage.retrieve("flow", "task", "1")
        with adapter.opened() as other:
            other.store("flow", "task", "1", "x")
            assert storage.retrieve("flow", "task", "1") == "x"

    def test_keeps_results_while_nobody_is_connected(self, adapter: Any) -> None:
        """A result outlives the connection of the one who stored it."""
        with adapter.opened() as storage:
            storage.store("flow", "task", "1", "x")
        with adapter.opened() as storage:
            assert storage.retrieve("flow", "task", "1") == "x"
