"""Exceptions as data: everything that led to them, bounded, whatever they are."""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore import Failure, FlowStore, Key, RemoteTaskError
from flowstore.encoding.pipeline import Pipeline
from flowstore.encoding.serialize import dumps, loads
from flowstore.errors import CorruptError, StorageError
from flowstore.record import ERROR, Ref
from flowstore.record.capture import MAX_FRAMES, MAX_ITEMS
from flowstore.record.failure import MAX_EXCEPTIONS
from flowstore.texts import MAX_TEXT, summarize

REF = Ref(ERROR, Key("flow", "task", "id"))


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


class NoText(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class HidesItself(Exception):
    """Puts something else in the place of each attribute that every exception has."""

    args = property(lambda self: 1 / 0)
    __cause__ = property(lambda self: 1 / 0)
    __context__ = property(lambda self: 1 / 0)
    __notes__ = property(lambda self: 1 / 0)
    __traceback__ = property(lambda self: 1 / 0)


class Loud(str):
    def __str__(self) -> str:
        return self

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no bytes")


def with_notes(*notes: Any) -> BaseException:
    exc = ValueError("x")
    exc.__notes__ = list(notes)
    return exc


ODD = {
    "str() raises": Broken("a"),
    "str() gives None": NoText("a"),
    "repr() of an argument raises": ValueError(Broken()),
    "a lone surrogate": ValueError("no such file: caf\udce9"),
    "a lone surrogate further on": ValueError("x" * 300 + "\udcff"),
    "NUL": ValueError("a\0b"),
    "an integer of 5000 digits": ValueError(10**5000),
    "an integer of 5000 digits in a list": ValueError([10**5000]),
    "a million arguments": ValueError(*range(1_000_000)),
    "an argument of many parts": ValueError([[[["x" * 1000] * 30] * 30] * 30]),
    "many megabytes of bytes": ValueError(b"x" * 10_000_000),
    "5000 notes": with_notes(*["n" * 10_000] * 5000),
    "notes that are numbers": with_notes(5, 10**5000, Broken()),
    "every attribute hidden": HidesItself("a"),
    "a strange subclass of str": ValueError(Loud("a")),
    "a class whose module is None": type("Nowhere", (Exception,), {"__module__": None})("a"),
    "a class with a strange name": type("no name\n" * 5000, (Exception,), {})("a"),
    "no message": ValueError(),
    "a syntax error in strange text": SyntaxError("bad", ("f", 10**5000, 1, "\udcff")),
}


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
@pytest.mark.parametrize("name", ODD)
def test_whatever_the_exception_its_error_is_stored_and_read(name: str, serializer: Any) -> None:
    try:
        raise ODD[name] from KeyError("cause")
    except Exception as exc:
        record = Pipeline(serializer).encode_error(REF, exc, {"error": summarize(exc), "node_args": exc})
        kind = type(exc).__qualname__
    json.dumps(record.headers).encode()
    record.headers["error"].encode()
    error = Pipeline(serializer).decode_error(record)
    assert error.failure.type_name[:1000] == kind[:1000]
    assert len(record.payload) < 2_000_000
    assert str(error)
    if name != "every attribute hidden":
        assert error.failure.cause is not None
        assert error.failure.cause.summary == "KeyError: 'cause'"


def test_an_exception_that_hides_its_attributes_keeps_them() -> None:
    exc = HidesItself("a", 1)
    getattr(BaseException, "__cause__").__set__(exc, KeyError("cause"))  # noqa: B009 - the class has hidden it
    failure = Failure.of(exc)
    assert (failure.args, failure.cause and failure.cause.type_name) == (("a", 1), "KeyError")


def test_what_is_left_out_is_said() -> None:
    failure = Failure.of(ValueError(*range(1000)))
    assert failure.args[:3] == (0, 1, 2)
    assert (len(failure.args), failure.args[-1]) == (MAX_ITEMS + 1, "… (1000 arguments)")
    notes = Failure.of(with_notes(*"n" * 1000)).notes
    assert (len(notes), notes[-1]) == (MAX_ITEMS + 1, "… (1000 notes)")


def test_all_texts_together_are_bounded() -> None:
    deep: BaseException = ValueError("x")
    for _ in range(MAX_EXCEPTIONS):
        outer = with_notes(*["n" * MAX_TEXT] * MAX_ITEMS)
        outer.__cause__ = deep
        deep = outer
    failure = Failure.of(deep)
    assert size(failure) == MAX_EXCEPTIONS
    assert len(json.dumps(failure.to_dict())) < 3_000_000


class UnpickleableExceptionWrapper(Exception):
    __module__ = "celery.utils.serialization"

    def __str__(self) -> str:
        return self.args[3]  # type: ignore[no-any-return]


def test_a_stand_in_for_what_cannot_be_pickled_is_described_as_the_original() -> None:
    failure = Failure.of(UnpickleableExceptionWrapper("shop.errors", "Refused", ("card", 5), "Refused('card', 5)"))
    assert failure.summary == "shop.errors.Refused: Refused('card', 5)"
    assert failure.args == ("card", 5)


def test_a_summary_is_one_line_of_a_list() -> None:
    assert summarize(ValueError("x")) == "ValueError: x"
    assert summarize(ValueError()) == "ValueError"
    assert len(summarize(ValueError("x" * 10_000))) == 200
    assert summarize(Broken()) == "Broken: <no text: str() of it raised RuntimeError>"


def fails(_: Any) -> None:
    raise ValueError("x")


def calls(inner: Any) -> None:
    inner(None)


def within(module: str, function: Any, inner: Any = None) -> Any:
    """Return a function as if a module had defined it."""
    defined = types.FunctionType(function.__code__.replace(co_filename=module), {"__name__": module, **SPACE})
    return lambda _: defined(inner)


SPACE = {"ValueError": ValueError}


def test_frames_of_the_recording_are_left_out_wherever_they_stand() -> None:
    task = within("shop.tasks", fails)
    run = within("flowstore.celery.recording", calls, task)
    watched = within("sentry", calls, run)
    again = within("flowstore.celery.other", calls, watched)
    traced = within("celery.app.trace", calls, again)
    exc = raised(lambda: traced(None))
    files = [frame.file for frame in Failure.of(exc).frames]
    assert [file for file in files if file != __file__] == ["celery.app.trace", "sentry", "shop.tasks"]
    while exc.__traceback__ and exc.__traceback__.tb_frame.f_globals["__name__"] != "celery.app.trace":
        exc.__traceback__ = exc.__traceback__.tb_next
    assert Failure.of(exc).frames[0].file != "celery.app.trace"


PLAIN = {"type_name": "ValueError", "module": "builtins", "message": "x"}


@pytest.mark.parametrize(
    "data",
    [
        5,
        [],
        {},
        {**PLAIN, "type_name": 5},
        {**PLAIN, "module": None},
        {**PLAIN, "message": ["x"]},
        {**PLAIN, "args": {"a": 1}},
        {**PLAIN, "args": 5},
        {**PLAIN, "notes": [5]},
        {**PLAIN, "notes": "text"},
        {**PLAIN, "frames": [5]},
        {**PLAIN, "frames": [{"file": "f", "line": "1", "function": "g", "source": ""}]},
        {**PLAIN, "frames": [{"file": "f"}]},
        {**PLAIN, "cause": 5},
        {**PLAIN, "context": {"type_name": "x"}},
        {**PLAIN, "members": [None, 5]},
        {**PLAIN, "members": {}},
        {**PLAIN, "node_args": 5},
    ],
)
def test_what_is_no_failure_is_corrupt(data: Any) -> None:
    pipeline = Pipeline()
    with pytest.raises(CorruptError, match="does not hold a failure"):
        pipeline.decode_error(pipeline.encode(REF, data))


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(PLAIN)), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["args", "notes", "frames", "cause", "context", "members", "node_args"]), json_values
    )
)
def test_any_data_gives_an_error_that_can_be_shown_or_is_corrupt(data: dict[str, Any]) -> None:
    pipeline = Pipeline()
    with contextlib.suppress(CorruptError):
        str(pipeline.decode_error(pipeline.encode(REF, {**PLAIN, **data})))


def test_900_nested_causes_are_read_and_shown() -> None:
    inner = json.dumps(PLAIN)[:-1].encode()
    record = Pipeline().encode_bytes(REF, (inner + b',"cause":') * 900 + inner + b"}" * 901, {"serializer": "json"})
    error = Pipeline().decode_error(record)
    assert size(error.failure) == MAX_EXCEPTIONS
    assert str(error).count("ValueError: x") > MAX_EXCEPTIONS


@pytest.mark.parametrize("classname", ["SilentStorage", "DeafStorage"])
def test_what_an_adapter_raises_is_told_even_if_it_has_no_text(classname: str) -> None:
    entry = {"name": "S", "classname": classname, "import": "tests.store.own_adapters", "on_store_error": "fail"}
    store = FlowStore({"storages": [entry], "global": {"default_storage": "S"}})
    with pytest.raises(StorageError, match="NoText: <no text"):
        store.store("flow", "task", "1", 5)
