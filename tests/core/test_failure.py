"""Exceptions as data: everything that led to them, bounded, whatever they are."""

from __future__ import annotations

import json
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore import Failure, Key, RemoteTaskError
from flowstore.failure import MAX_EXCEPTIONS, MAX_FRAMES, MAX_TEXT
from flowstore.serialize import dumps, loads


def raised(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as exc:
        return exc
    raise AssertionError("nothing was raised")


def size(failure: Failure | None) -> int:
    if failure is None:
        return 0
    return 1 + size(failure.cause) + size(failure.context) + sum(map(size, failure.members))


def survives(failure: Failure) -> None:
    """It is plain JSON, and comes back the same."""
    again = Failure.from_dict(loads(*dumps(failure.to_dict())))
    assert repr(again) == repr(failure)


def caused() -> None:
    try:
        dict[str, int]()["missing"]
    except KeyError as exc:
        raise ValueError("outer") from exc


def in_context() -> None:
    try:
        dict[str, int]()["missing"]
    except KeyError:
        raise ValueError("outer")  # noqa: B904


def suppressed() -> None:
    try:
        dict[str, int]()["missing"]
    except KeyError:
        raise ValueError("outer") from None


def grouped() -> None:
    members: list[Exception] = []
    for function in (caused, suppressed):
        try:
            function()
        except ValueError as exc:
            members.append(exc)
    raise ExceptionGroup("several", [*members, ExceptionGroup("inner", [OSError(2, "no such file", "name")])])


def test_cause_and_context_are_told_apart() -> None:
    failure = Failure.of(raised(caused))
    assert (failure.type_name, failure.module, failure.message) == ("ValueError", "builtins", "outer")
    assert failure.cause is not None
    assert failure.cause.summary == "KeyError: 'missing'"
    assert failure.context is None
    failure = Failure.of(raised(in_context))
    assert failure.cause is None
    assert failure.context is not None
    assert failure.context.type_name == "KeyError"
    failure = Failure.of(raised(suppressed))
    assert (failure.cause, failure.context) == (None, None)


@pytest.mark.parametrize("function", [caused, in_context, suppressed])
def test_it_reads_as_python_prints_it(function: Callable[[], Any]) -> None:
    exc = raised(function)
    printed = "".join(traceback.format_exception(exc))
    ours = Failure.of(exc).format()
    marks = "".join(
        line for line in printed.splitlines(keepends=True) if set(line.strip()) - set("^~") or not line.strip()
    )
    assert ours == marks.rstrip("\n")
    survives(Failure.of(exc))


def test_groups_keep_all_members_with_their_causes() -> None:
    failure = Failure.of(raised(grouped))
    assert [member.type_name for member in failure.members] == ["ValueError", "ValueError", "ExceptionGroup"]
    assert failure.members[0].cause is not None
    assert failure.members[2].members[0].args == (2, "no such file")
    text = failure.format()
    for part in ("several", "KeyError: 'missing'", "inner", "no such file: 'name'"):
        assert part in text
    survives(failure)


def test_notes_are_kept() -> None:
    exc = ValueError("x")
    exc.add_note("first")
    exc.add_note("second\nline")
    failure = Failure.of(exc)
    assert failure.notes == ("first", "second\nline")
    assert failure.format().endswith("first\nsecond\nline")
    survives(failure)


def test_notes_that_are_not_what_they_should_be_do_no_harm() -> None:
    for notes in (None, 5, "text", [1, object()], {"a": 1}):
        exc = ValueError("x")
        exc.__notes__ = notes  # type: ignore[assignment]
        survives(Failure.of(exc))


def test_cycles_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    one.__context__, other.__context__ = other, one
    assert size(Failure.of(one)) == 2
    own = ValueError("own")
    own.__cause__ = own
    assert size(Failure.of(own)) == 1


def test_long_chains_and_wide_groups_are_bounded() -> None:
    exc = ValueError("0")
    for number in range(1, 5000):
        outer = ValueError(str(number))
        outer.__cause__ = exc
        exc = outer
    failure = Failure.of(exc)
    assert failure.message == "4999"
    assert size(failure) <= MAX_EXCEPTIONS
    survives(failure)
    wide = ExceptionGroup("wide", [ValueError(str(number)) for number in range(5000)])
    assert size(Failure.of(wide)) <= MAX_EXCEPTIONS


def test_deep_recursion_keeps_both_ends_of_the_traceback() -> None:
    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        raise ValueError("bottom")

    failure = Failure.of(raised(lambda: recurse(sys.getrecursionlimit() // 2)))
    assert len(failure.frames) == MAX_FRAMES
    assert failure.frames[0].function == "raised"
    assert failure.frames[-1].source == 'raise ValueError("bottom")'


def test_huge_messages_args_and_arguments_are_cut_and_say_so() -> None:
    failure = Failure.of(ValueError("x" * 1_000_000, ["y" * 1_000_000] * 3), {"args": ["z" * 1_000_000] * 1000})
    assert len(json.dumps(failure.to_dict())) < 5 * MAX_TEXT
    assert "characters" in failure.message
    survives(failure)


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Odd(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Hostile:
    def __repr__(self) -> str:
        raise SystemExit("no repr")


def test_broken_str_and_repr_do_no_harm() -> None:
    failure = Failure.of(Broken(Broken()), Broken())
    assert "RuntimeError" in failure.message
    survives(failure)
    survives(Failure.of(Odd("x")))


def test_an_exception_whose_notes_break_does_no_harm() -> None:
    exc = ValueError("x")
    exc.__notes__ = [Broken()]  # type: ignore[list-item]
    survives(Failure.of(exc))


def test_a_class_with_keyword_arguments_only_is_described_too() -> None:
    class KeywordError(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__(f"code {code}")

    failure = Failure.of(KeywordError(code=5))
    assert failure.type_name.endswith("KeywordError")
    assert failure.message == "code 5"
    survives(failure)


def test_what_is_not_utf8_is_escaped() -> None:
    failure = Failure.of(ValueError("bad \ud800", "\udfff", b"\xff", float("nan"), float("inf"), 10**30))
    survives(failure)
    assert "\\ud800" in failure.message


@given(
    st.lists(
        st.one_of(st.text(st.characters()), st.integers(), st.floats(), st.none(), st.binary(), st.lists(st.text()))
    )
)
def test_any_arguments_survive(args: list[Any]) -> None:
    exc = ValueError(*args)
    survives(Failure.of(exc, {"args": args, "kwargs": {}}))


def test_reading_needs_no_class_and_passes_over_what_is_new() -> None:
    data = {"type_name": "Gone", "module": "no.such.module", "message": "m", "added later": 1}
    failure = Failure.from_dict(data)
    assert failure.summary == "no.such.module.Gone: m"
    assert "no.such" not in sys.modules


def test_a_remote_error_can_be_raised_pickled_and_read() -> None:
    error = RemoteTaskError(Failure.of(raised(caused)), Key("flow", "task", "id"), {"attempt": 3})
    with pytest.raises(RemoteTaskError, match="outer") as caught:
        raise error
    assert "direct cause" in str(caught.value)
    again = pickle.loads(pickle.dumps(error))
    assert (again.failure, again.key, again.attempt) == (error.failure, error.key, 3)
    assert repr(error) == "<RemoteTaskError 'flow' / 'task' / 'id': ValueError: outer>"
