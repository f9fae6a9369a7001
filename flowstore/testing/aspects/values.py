"""Values in, values out: the six methods of ``DataStorage``."""

from __future__ import annotations

from typing import Any

import pytest

from flowstore.errors import NotFoundError
from flowstore.storage import DataStorage, keeps_errors
from flowstore.testing.base import AdapterTests, not_offered
from flowstore.testing.samples import HOSTILE, JOINED, PLAIN_VALUES


def misses(storage: DataStorage) -> tuple[type[Exception], ...]:
    """Return the exceptions that mean that no result is stored."""
    return (NotFoundError, *storage.not_found_errors)


class ValueTests(AdapterTests):
    """A value is returned as it was stored, under its key only."""

    aspect = "values"

    @pytest.mark.parametrize("value", PLAIN_VALUES, ids=repr)
    def test_returns_what_was_stored(self, storage: Any, value: object) -> None:
        """The next task gets another value or type than the last one returned."""
        storage.store("flow", "task", "1", value)
        found = storage.retrieve("flow", "task", "1")
        assert found == value
        assert type(found) is type(value)

    def test_reports_a_missing_result(self, storage: Any) -> None:
        """A missing result is returned as ``None``, which is a valid result."""
        with pytest.raises(misses(storage)):
            storage.retrieve("flow", "task", "1")
        storage.store("flow", "task", "1", None)
        assert storage.retrieve("flow", "task", "1") is None

    @pytest.mark.parametrize("names", [("other", "task", "1"), ("flow", "other", "1"), ("flow", "task", "2")])
    def test_does_not_find_another_key(self, storage: Any, names: tuple[str, str, str]) -> None:
        """One flow gets another flow's results.

        A key is all three names, not only the task id.
        """
        storage.store("flow", "task", "1", "mine")
        with pytest.raises(misses(storage)):
            storage.retrieve(*names)
        storage.store(*names, "another's")
        assert storage.retrieve("flow", "task", "1") == "mine"
        assert storage.retrieve(*names) == "another's"

    def test_replaces_what_was_stored_under_the_same_key(self, storage: Any) -> None:
        """Storing twice fails, or keeps the first value.

        A task that is delivered twice stores twice.
        """
        for value in ("old and longer", "new", "new", {"a": 1}):
            storage.store("flow", "task", "1", value)
            assert storage.retrieve("flow", "task", "1") == value

    def test_retrieves_repeatedly(self, storage: Any) -> None:
        """Reading uses a result up, or readers share one object."""
        storage.store("flow", "task", "1", {"a": [1]})
        storage.retrieve("flow", "task", "1")["a"].append(2)
        assert storage.retrieve("flow", "task", "1") == {"a": [1]}, "a reader changed what the next one gets"

    def test_does_not_keep_the_callers_object(self, storage: Any) -> None:
        """A caller's change to a value after storing it changed what is stored."""
        value = {"a": [1]}
        storage.store("flow", "task", "1", value)
        value["a"].append(2)
        assert storage.retrieve("flow", "task", "1") == {"a": [1]}

    @pytest.mark.parametrize("position", [0, 1, 2], ids=["flow_name", "task_name", "task_id"])
    def test_keeps_results_of_hostile_keys_apart(self, storage: Any, position: int) -> None:
        """Similar names are confused: by case, blanks, accents, or as paths."""
        names = [tuple(part if place == position else "x" for place in range(3)) for part in HOSTILE]
        for number, name in enumerate(names):
            storage.store(*name, number)
        assert [storage.retrieve(*name) for name in names] == list(range(len(names)))

    def test_keeps_results_apart_whose_keys_look_alike_when_joined(self, storage: Any) -> None:
        """Two keys are confused whose joined names are equal."""
        for number, key in enumerate(JOINED):
            storage.store(key.flow_name, key.task_name, key.task_id, number)
        found = [storage.retrieve(key.flow_name, key.task_name, key.task_id) for key in JOINED]
        assert found == list(range(len(JOINED)))

    def test_keeps_large_values(self, storage: Any) -> None:
        """A value of a few megabytes is not stored, or changed."""
        value = {"text": "é" * 1_000_000, "list": list(range(100_000))}
        storage.store("flow", "task", "1", value)
        assert storage.retrieve("flow", "task", "1") == value


class ErrorTests(AdapterTests):
    """The error of a task is stored apart from its result."""

    aspect = "errors"

    def test_keeps_the_error_beside_the_result(self, storage: Any) -> None:
        """An error replaced a result, or is returned as one.

        A task that failed and then succeeded has both.
        """
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
    """What one instance stores, others see at once."""

    aspect = "instances"

    def test_another_instance_sees_what_was_stored(self, adapter: Any, storage: Any) -> None:
        """A value was not stored, or stays in the instance that stored it."""
        storage.store("flow", "task", "1", {"a": 1})
        with adapter.opened() as other:
            assert other.retrieve("flow", "task", "1") == {"a": 1}

    def test_sees_what_another_instance_replaced(self, adapter: Any, storage: Any) -> None:
        """The adapter returns a stale value that it has cached.

        Only flowstore's own cache, which can be turned off, may do that.
        """
        storage.store("flow", "task", "1", "old")
        assert storage.retrieve("flow", "task", "1") == "old"
        with adapter.opened() as other:
            other.store("flow", "task", "1", "new")
            assert storage.retrieve("flow", "task", "1") == "new"
            storage.store("flow", "task", "1", "newer")
            assert other.retrieve("flow", "task", "1") == "newer"

    def test_sees_what_another_instance_stored_after_a_miss(self, adapter: Any, storage: Any) -> None:
        """The adapter caches that a result is missing."""
        with pytest.raises(misses(storage)):
            storage.retrieve("flow", "task", "1")
        with adapter.opened() as other:
            other.store("flow", "task", "1", "x")
            assert storage.retrieve("flow", "task", "1") == "x"

    def test_keeps_results_after_disconnecting(self, adapter: Any) -> None:
        """A result is lost when the instance that stored it disconnects."""
        with adapter.opened() as storage:
            storage.store("flow", "task", "1", "x")
        with adapter.opened() as storage:
            assert storage.retrieve("flow", "task", "1") == "x"
