"""What applications call: five different answers, and the policies of storages."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowstore import (
    ConflictError,
    CorruptError,
    FlowStore,
    InvalidKeyError,
    Key,
    NotFoundError,
    ReadonlyError,
    RecordStorage,
    Ref,
    ResultSchemaError,
    SerializationError,
    StorageError,
    UnknownStorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.encoding.pipeline import encode
from flowstore.record import ERROR, RESULT
from flowstore.testing import record

HERE = "tests.store.own_adapters"
DEFAULT = {"default_storage": "S"}


@contextmanager
def opened(classname: str = "MemoryStorage", **entry: Any) -> Iterator[FlowStore]:
    tasks = entry.pop("tasks", [])
    own = {} if classname == "MemoryStorage" else {"import": HERE}
    storage = {"name": "S", "classname": classname, **own, **entry}
    store = FlowStore({"storages": [storage], "tasks": tasks, "global": DEFAULT})
    yield store
    store.close()


@pytest.fixture(params=["MemoryStorage", "PlainStorage", "ErrorStorage"])
def store(request: pytest.FixtureRequest) -> Iterator[FlowStore]:
    with opened(request.param) as store:
        yield store


def test_a_value_comes_back_also_none_and_false_ones(store: FlowStore) -> None:
    values: list[Any] = [None, 0, "", [], {}, False, {"a": [1]}]
    for number, value in enumerate(values):
        store.store("f", "t", str(number), value)
        assert store.retrieve("f", "t", str(number)) == value
        assert store.retrieve("f", "t", str(number), default="default") == value


def test_a_missing_one_is_not_found(store: FlowStore) -> None:
    with pytest.raises(NotFoundError, match="'f' / 't' / '1'"):
        store.retrieve("f", "t", "1")
    for default in (None, 5):
        assert store.retrieve("f", "t", "1", default=default) is default


def test_keys_are_exact(store: FlowStore) -> None:
    keys = [
        ("a", "b:c", "1"),
        ("a:b", "c", "1"),
        ("a", "b", "c:1"),
        ("A", "b", "c:1"),
        ("", "", ""),
        ("a/..", "\0", "ü"),
        ("a/..", "\0", "u\u0308"),
    ]
    for number, key in enumerate(keys):
        store.store(*key, number)
    assert [store.retrieve(*key) for key in keys] == list(range(len(keys)))


@pytest.mark.parametrize("part", [None, 1, b"x", "\ud800"])
def test_a_key_of_anything_but_text_is_refused(part: Any, store: FlowStore) -> None:
    for key in [(part, "t", "i"), ("f", "t", part)]:
        with pytest.raises(InvalidKeyError):
            store.store(*key, 1)
        with pytest.raises(InvalidKeyError):
            store.retrieve(*key, default=None)


def test_a_damaged_record_is_corrupt_also_with_a_default() -> None:
    with opened() as store:
        storage: Any = store.storage("S")
        record = encode(Ref(RESULT, Key("f", "t", "1")), [1])
        storage.put(type(record)(record.ref, b"[2]", record.headers))
        with pytest.raises(CorruptError):
            store.retrieve("f", "t", "1", default=None)


def test_a_storage_that_answers_with_another_record_is_corrupt() -> None:
    with opened() as store:
        storage: Any = store.storage("S")
        storage._get = lambda ref, payload: encode(Ref(RESULT, Key("f", "t", "other")), "somebody else's")
        with pytest.raises(CorruptError, match="other"):
            store.retrieve("f", "t", "1")


def test_an_unreachable_storage_is_told_from_a_missing_value() -> None:
    with (
        opened("PlainStorage", configuration={"failing": 9}, on_store_error="fail") as store,
        pytest.raises(UnreachableError, match="nobody is listening"),
    ):
        store.retrieve("f", "t", "1", default=None)


def test_a_task_without_a_storage_is_refused() -> None:
    with (
        opened(tasks=[{"name": "off", "storage": None}]) as store,
        pytest.raises(UnknownStorageError, match="'off'"),
    ):
        store.store("f", "off", "1", 1)


def test_a_refused_value_leaves_an_older_one() -> None:
    with opened() as store:
        store.store("f", "t", "1", "old")
        with pytest.raises(SerializationError, match=r"\$\.a"):
            store.store("f", "t", "1", {"a": object()})
        assert store.retrieve("f", "t", "1") == "old"


def test_a_readonly_task_is_read_but_never_written() -> None:
    with opened(tasks=[{"name": "t", "storage": "S", "storage_readonly": True}]) as store:
        storage: Any = store.storage("S")
        storage.store("f", "t", "1", "there")
        assert store.retrieve("f", "t", "1") == "there"
        for change in (
            lambda: store.store("f", "t", "1", 2),
            lambda: store.delete("f", "t", "1"),
            lambda: store.store_error({}, "f", "t", "1", ValueError("x")),
        ):
            with pytest.raises(ReadonlyError, match="storage_readonly"):
                change()
        assert store.retrieve("f", "t", "1") == "there"


def test_what_has_expired_counts_as_nothing_with_a_default_too() -> None:
    """The answer must not depend on whether somebody has cleaned up in between."""
    with opened() as store:
        store.store("f", "t", "1", "x", expires_in=0)
        storage = store.storage("S")
        assert isinstance(storage, RecordStorage)
        storage.put(record(Key("f", "t", "1"), "x", ERROR, expires_at=1.0))
        for _ in range(2):
            assert store.retrieve("f", "t", "1", None) is None
            assert store.retrieve("f", "t", "1", default="none") == "none"
            assert store.retrieve_error("f", "t", "1", None) is None
            assert store.retrieve_many([("f", "t", "1")], default="none") == ["none"]
            with pytest.raises(NotFoundError):
                store.retrieve("f", "t", "1")
            store.cleanup()


def test_an_earlier_execution_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """It is neither stored over the later one's result, nor does its task fail for that."""
    with opened() as store, caplog.at_level("INFO"):
        route, key = store._router.find_route("f", "t"), Key("f", "t", "1")
        assert route is not None
        stored = [
            store._outcomes.store_result(route, key, value, {"attempt": attempt, "started_at": started_at})
            for value, attempt, started_at in (("second", 2, 20.0), ("first", 1, 10.0), ("once more", 2, 15.0))
        ]
        assert len(set(stored)) == 1
        assert store.retrieve("f", "t", "1") == "second"
        told = [line.getMessage() for line in caplog.records if "later execution" in line.getMessage()]
        assert len(told) == 2
        assert "attempt 1, begun at 10.000" in told[0]
        for number, started_at in enumerate((20.0, 10.0)):
            facts = {"attempt": 1, "started_at": started_at}
            store._outcomes.store_error(route, key, ValueError(number), facts)
        assert store.retrieve_error("f", "t", "1").failure.args == (0,)


def test_a_negative_limit_is_refused() -> None:
    with opened() as store:
        for limited in (lambda: store.history("f", limit=-1), lambda: store.runs("f", limit=-1)):
            with pytest.raises(ValueError, match="limit must be at least 0"):
                limited()
        assert list(store.history("f", limit=0)) == []


def test_a_schema_refuses_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"properties": {"rows": {"items": {"type": "integer"}}}}')
    with opened(tasks=[{"name": "t", "storage": "S", "output_schema": str(tmp_path / "schema.json")}]) as store:
        store.store("f", "t", "1", {"rows": [1, 2]})
        with pytest.raises(ResultSchemaError, match=r"\$\.rows\[1\]") as caught:
            store.store("f", "t", "1", {"rows": [1, "2"]})
        assert caught.value.path == "$.rows[1]"
        assert store.retrieve("f", "t", "1") == {"rows": [1, 2]}


@pytest.mark.parametrize(("policy", "left"), [("replace", 2), ("keep", 1)])
def test_a_second_result_under(policy: str, left: int) -> None:
    with opened(on_conflict=policy) as store:
        store.store("f", "t", "1", 1)
        store.store("f", "t", "1", 2)
        assert store.retrieve("f", "t", "1") == left


def test_a_second_result_under_error_unless_it_is_the_same() -> None:
    with opened(on_conflict="error") as store:
        store.store("f", "t", "1", {"a": 1})
        store.store("f", "t", "1", {"a": 1})
        with pytest.raises(ConflictError, match="on_conflict is 'error'") as caught:
            store.store("f", "t", "1", {"a": 2})
        assert caught.value.storage == "S"
        assert caught.value.current.key == Key("f", "t", "1")
        assert store.retrieve("f", "t", "1") == {"a": 1}


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("policy", ["replace", "keep", "error"])
def test_a_write_is_tried_again_and_knows_its_own(policy: str, arrives: bool, caplog: pytest.LogCaptureFixture) -> None:
    flaky = {"failing": 4, "arrives": arrives}
    with opened("FlakyStorage", configuration=flaky, on_conflict=policy) as store, caplog.at_level(logging.WARNING):
        store.store("f", "t", "1", {"a": 1})
        assert store.retrieve("f", "t", "1") == {"a": 1}
        # A write that arrived is recognised by its token where the next one is conditional.
        recognised = arrives and policy != "replace"
        assert store.storage("S").tries == (2 if recognised else 5)  # type: ignore[attr-defined]
        assert "trying again" in caplog.text


def test_a_write_is_not_tried_for_ever() -> None:
    flaky = {"failing": 999}
    with opened("FlakyStorage", configuration=flaky, on_store_error={"retry": 0.3}) as store:
        with pytest.raises(UnreachableError) as caught:
            store.store("f", "t", "1", 1)
        assert caught.value.storage == "S"
        assert 2 < store.storage("S").tries < 999  # type: ignore[attr-defined]


@pytest.mark.parametrize("policy", ["fail", "log"])
def test_a_write_is_tried_once_under(policy: str) -> None:
    with opened("FlakyStorage", configuration={"failing": 1}, on_store_error=policy) as store:
        with pytest.raises(UnreachableError):
            store.store("f", "t", "1", 1)
        assert store.storage("S").tries == 1  # type: ignore[attr-defined]


def test_an_error_comes_back_with_everything() -> None:
    with opened() as store:
        try:
            raise ValueError("with a traceback")
        except ValueError as exc:
            store.store_error({"args": [1], "kwargs": {}}, "f", "t", "1", sys.exc_info())  # type: ignore[arg-type]
            store.store_error(None, "f", "t", "2", exc)
        error = store.retrieve_error("f", "t", "1")
        assert error.failure.message == "with a traceback"
        assert error.failure.node_args == "{'args': [1], 'kwargs': {}}"
        assert error.failure.frames[-1].source == 'raise ValueError("with a traceback")'
        assert [each.key.task_id for each in store.errors("f", "t", "2")] == ["2"]
        with pytest.raises(NotFoundError):
            store.retrieve_error("f", "t", "3")
        assert store.retrieve_error("f", "t", "3", default=None) is None
        with pytest.raises(NotFoundError):
            store.retrieve_error("f", "t", "1", attempt=1)


def test_errors_need_a_storage_that_keeps_them() -> None:
    with opened("PlainStorage") as store, pytest.raises(UnsupportedError, match="store_error"):
        store.store_error({}, "f", "t", "1", ValueError("x"))
    with opened("ErrorStorage") as store:
        assert store.store_error({"args": []}, "f", "t", "1", ValueError("x")) == "17"
        storage: Any = store.storage("S")
        node_args, exc_info = storage.values["error", "f", "t", "1"]
        assert (node_args, exc_info[0]) == ({"args": []}, ValueError)
        with pytest.raises(UnsupportedError):
            store.retrieve_error("f", "t", "1")


def test_delete_takes_result_and_errors_of_one_task_only() -> None:
    with opened() as store:
        for task_id in ("1", "2"):
            store.store("f", "t", task_id, 1)
            store.store_error({}, "f", "t", task_id, ValueError("x"))
        assert store.delete("f", "t", "1") is True
        assert store.delete("f", "t", "1") is False
        assert store.retrieve("f", "t", "1", default="gone") == "gone"
        assert store.retrieve_error("f", "t", "1", default="gone") == "gone"
        assert store.retrieve("f", "t", "2") == 1
        storage = store.storage("S")
        assert isinstance(storage, RecordStorage)
        assert store.retrieve_error("f", "t", "2").failure.message == "x"


def test_delete_from_a_plain_adapter_with_and_without_the_method() -> None:
    with opened("PlainStorage") as store, pytest.raises(UnsupportedError, match="delete"):
        store.delete("f", "t", "1")
    with opened("ErrorStorage") as store:
        store.store("f", "t", "1", 1)
        assert [store.delete("f", "t", "1"), store.delete("f", "t", "1")] == [True, False]


def test_a_bug_in_a_plain_adapter_is_a_storage_error_with_its_cause() -> None:
    with opened("PlainStorage") as store:
        store.storage("S").values = None  # type: ignore[attr-defined]
        with pytest.raises(StorageError, match="storage 'S' failed: TypeError") as caught:
            store.store("f", "t", "1", 1)
        assert isinstance(caught.value.__cause__, TypeError)


def test_aliases_work_for_every_call() -> None:
    with opened(tasks=[{"name": "long.name", "storage": "S", "storage_task_name": "short"}]) as store:
        store.store("f", "long.name", "1", 1)
        store.store_error({}, "f", "short", "1", ValueError("x"))
        for name in ("long.name", "short"):
            assert store.retrieve("f", name, "1") == 1
            assert store.retrieve_error("f", name, "1").key == Key("f", "short", "1")
        assert store.delete("f", "long.name", "1")


def test_repr_shows_no_secret() -> None:
    arguments = {"connection_string": "sqlite:///hunter2.db"}
    store = FlowStore({"storages": [{"name": "S", "classname": "SqlStorage", "configuration": arguments}]})
    assert "hunter2" not in repr(store)
    assert "hunter2" not in repr(store._configuration)
