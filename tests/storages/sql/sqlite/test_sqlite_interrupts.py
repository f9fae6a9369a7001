"""An exception that a signal raises, as a task's time limit does, at every point of a call on SQLite."""

from __future__ import annotations

import dis
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from flowstore.errors import UnreachableError
from flowstore.record import Key, Query, Ref
from flowstore.storages import SqlStorage
from flowstore.storages.sql.sqlite import statements as _sqlite_statements
from tests.storages.sql.sqlite.sqlite_kit import sql
from tests.storages.storage_kit import record

CALLS: dict[str, Callable[[SqlStorage], object]] = {
    "put": lambda storage: storage.put(record(Key("f", "t", "1"), 1)),
    "insert": lambda storage: storage.put(record(Key("f", "t", "new"), 1), if_revision=0),
    "put_many": lambda storage: storage.put_many([record(Key("f", "t", str(n)), n) for n in range(3)]),
    "add_many": lambda storage: storage.add_many([record(Key("f", "t", f"new{n}"), n) for n in range(3)]),
    "delete": lambda storage: storage.delete(Key("f", "t", "1")),
    "delete_many": lambda storage: storage.delete_many([Ref("result", Key("f", "t", str(n))) for n in range(3)]),
    "get": lambda storage: storage.get(Key("f", "t", "kept")),
    "where": lambda storage: storage.scan(Query(flow_name="f", where={"a": 1})),
}


class TooLongError(BaseException):
    """As a signal's handler raises it, in whatever code is running."""


# Where Python looks for signals: after calling what is written in C, as a function begins, and at the end of a loop.
_LOOKS = ("CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD", "SEND")


@cache
def looks_for_signals(code: CodeType) -> frozenset[int]:
    """Return the offsets of the instructions before which a signal's handler may run."""
    instructions = list(dis.get_instructions(code))
    return frozenset(after.offset for before, after in pairwise(instructions) if before.opname in _LOOKS)


@contextmanager
def interrupted_after(steps: int) -> Iterator[None]:
    """Raise in the storage's own code where the handler of a signal can, at the given one of these places."""
    done = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal done
        if "/storages/sql/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in looks_for_signals(frame.f_code):
            done += 1
            if done == steps:
                raise TooLongError
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_interrupt_anywhere_leaves_nothing_open(tmp_path: Path, call: Callable[[SqlStorage], object]) -> None:
    path = tmp_path / "records.db"
    storage = sql(path, synchronous="NORMAL", timeout=0)
    storage.connect()
    storage.store("f", "t", "kept", {"a": 1})
    steps, kept = 0, []
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        while True:
            storage.store("f", "t", "1", 1)
            storage.delete(Key("f", "t", "new"))
            steps += 1
            try:
                with interrupted_after(steps):
                    call(storage)
                break
            except TooLongError as exc:
                kept.append(exc)  # with its traceback, as who reports it keeps it for a while
            # Others may write at once, another thread of this process too, and see what is acknowledged afterwards.
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            pool.submit(storage.store, "f", "t", "other", steps).result()
            storage.store("f", "t", "mine", steps)
            rows = other.execute("SELECT value FROM flowstore_records WHERE task_id IN ('mine', 'other')").fetchall()
            assert rows == [(str(steps),)] * 2
    assert len(kept) == steps - 1 > 10
    storage.disconnect()


def test_an_interrupt_within_a_function_of_ours_is_not_swallowed(tmp_path: Path) -> None:
    class Interrupting(str):
        def __eq__(self, other: object) -> bool:
            raise TooLongError

        __hash__ = str.__hash__

    storage = sql(tmp_path / "records.db")
    storage.connect()
    storage.store("f", "t", "1", {"a": "x"})
    original = _sqlite_statements._conditions
    try:
        _sqlite_statements._conditions = lambda where: {"a": Interrupting("x")}  # type: ignore[assignment]
        with pytest.raises(TooLongError):
            storage.scan(Query(flow_name="f", where={"a": "x"}))
    finally:
        _sqlite_statements._conditions = original
    assert len(storage.scan(Query(flow_name="f", where={"a": "x"})).records) == 1
    storage.disconnect()


def test_a_handler_may_store_while_a_batch_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    storage = sql(path, timeout=0)
    storage.connect()
    database = storage._connection()
    held = database._borrow()[0]
    assert held is not None
    acknowledged = []

    def interrupting(link: Any) -> None:
        link.run("BEGIN IMMEDIATE")
        try:
            storage.store("f", "t", "nested", 1)
            acknowledged.append("nested")
        finally:
            link.connection.rollback()

    with pytest.raises(UnreachableError, match="locked"):
        database.execute(interrupting, "", changes=True)
    assert acknowledged == []  # rather than acknowledged and rolled back with the batch
    storage.store("f", "t", "nested", 2)
    assert storage.retrieve("f", "t", "nested") == 2
    storage.disconnect()
