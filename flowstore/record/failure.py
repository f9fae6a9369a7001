"""An exception as data, and the exception that carries it back.

A failed task's exception is described, not pickled: reading the description imports nothing and calls no constructor of
the original class. What is kept is bounded, so that a runaway traceback can't fill a storage.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import dropwhile, islice
from types import FrameType
from typing import Any, Final, TypeVar

from flowstore.errors import FlowstoreError
from flowstore.interrupts import is_interrupt
from flowstore.record import Key
from flowstore.texts import MAX_TEXT, Texts, fits, summary

__all__ = ["MAX_EXCEPTIONS", "MAX_FRAMES", "MAX_ITEMS", "MAX_TEXT", "Failure", "Frame", "RemoteTaskError", "summary"]

MAX_EXCEPTIONS: Final = 64
"""Exceptions described in one failure: causes, contexts and group members together."""
MAX_FRAMES: Final = 100
"""Frames kept of one traceback: the outermost and the innermost half."""
MAX_ITEMS: Final = 100
"""Arguments kept of one exception, and notes."""
_MAX_ALL: Final = 1_000_000  # characters of all texts of a failure together

_MACHINERY: Final = frozenset({"celery.app.trace", "celery.app.autoretry"})
"""Modules whose frames say nothing about a task where a traceback begins with them."""
_RECORDING: Final = "flowstore.celery."
"""The modules whose frames stand around a task's own, wherever another library has put its frames outside of them."""
_STAND_IN: Final = ("celery.utils.serialization", "UnpickleableExceptionWrapper")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a traceback; ``source`` is the line's text, if it could be read."""

    file: str
    line: int | None
    function: str
    source: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Describe an exception.

    Attributes:
        type_name, module: of the exception's class.
        message: what ``str()`` gave.
        args: the exception's arguments; anything but ``None``, booleans, numbers and strings as its ``repr``.
        notes: what ``add_note`` added.
        frames: the traceback, outermost call first.
        cause, context: the exceptions it was raised from, and while handling which; ``context`` is ``None`` where
            ``raise ... from`` hid it.
        members: the exceptions inside an exception group.
        node_args: the task's arguments as text, on the outermost failure only.
    """

    type_name: str
    module: str
    message: str
    args: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    cause: Failure | None = None
    context: Failure | None = None
    members: tuple[Failure, ...] = ()
    node_args: str | None = None

    @classmethod
    def of(cls, exc: BaseException, node_args: object = None) -> Failure:
        """Describe an exception with all that led to it."""
        return _Describer().describe(exc, node_args)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Failure:
        """Read what ``to_dict`` wrote; names that are not known here are passed over.

        Raises:
            KeyError, TypeError: it is nothing that ``to_dict`` writes.
        """
        return _Reader().read(data)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "type_name": self.type_name,
            "module": self.module,
            "message": self.message,
            "args": list(self.args),
            "notes": list(self.notes),
            "frames": [asdict(frame) for frame in self.frames],
            "cause": self.cause and self.cause.to_dict(),
            "context": self.context and self.context.to_dict(),
            "members": [member.to_dict() for member in self.members],
            "node_args": self.node_args,
        }

    @property
    def summary(self) -> str:
        """The last line of a traceback: type and message."""
        name = self.type_name if self.module in ("builtins", "__main__") else f"{self.module}.{self.type_name}"
        return f"{name}: {self.message}" if self.message else name

    def format(self) -> str:
        """Return the traceback of the whole chain, as Python prints it, without a final newline."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        before = self.cause or self.context
        if before is not None:
            yield from before._lines()
            yield ""
            yield (
                "The above exception was the direct cause of the following exception:"
                if self.cause
                else "During handling of the above exception, another exception occurred:"
            )
            yield ""
        if self.frames:
            yield "Traceback (most recent call last):"
        for frame in self.frames:
            yield f'  File "{frame.file}", line {frame.line}, in {frame.function}'
            if frame.source:
                yield f"    {frame.source}"
        yield self.summary
        yield from self.notes
        for number, member in enumerate(self.members, 1):
            yield f"  +---------------- {number} ----------------"
            yield from (f"  | {line}" for line in member._lines())


class RemoteTaskError(FlowstoreError):
    """The stored error of a task: as data in ``failure``, and as an exception that shows the whole chain when raised.

    Attributes:
        failure: the description of the exception.
        key: whose error it is.
        headers: the record's facts, such as ``attempt``, ``state``, ``run_id``, ``started_at``.
    """

    def __init__(self, failure: Failure, key: Key, headers: Mapping[str, Any]) -> None:
        super().__init__(failure, key, headers)
        self.failure = failure
        self.key = key
        self.headers = headers

    @property
    def attempt(self) -> int | None:
        """Which execution of the task failed, counted from 1; ``None`` if that is not known."""
        return self.headers.get("attempt")

    def __str__(self) -> str:
        return f"task {self.key} failed with {self.failure.summary}\n\n{self.failure.format()}"

    def __repr__(self) -> str:
        return f"<RemoteTaskError {self.key}: {self.failure.summary}>"


class _Reader:
    """Read a failure from data that may be anything, and no more exceptions than are described."""

    def __init__(self) -> None:
        self._left = MAX_EXCEPTIONS

    def read(self, data: Any) -> Failure:
        self._left -= 1
        _checked(data, Mapping)
        cause, context = self._next(data.get("cause")), self._next(data.get("context"))
        members = [self._next(member) for member in _items(data, "members")]
        return Failure(
            type_name=_checked(data["type_name"], str),
            module=_checked(data["module"], str),
            message=_checked(data["message"], str),
            args=tuple(_items(data, "args")),
            notes=tuple(_checked(note, str) for note in _items(data, "notes")),
            frames=tuple(map(_frame, _items(data, "frames"))),
            cause=cause,
            context=context,
            members=tuple(member for member in members if member is not None),
            node_args=_checked(data.get("node_args"), str | None),
        )

    def _next(self, data: Any) -> Failure | None:
        return None if data is None or self._left <= 0 else self.read(data)


def _items(data: Mapping[str, Any], name: str) -> list[Any]:
    found: list[Any] = _checked(data.get(name, []), list)
    return found


def _frame(data: Any) -> Frame:
    line = _checked(data["line"], int | None)
    if line is not None and not fits(line):
        raise TypeError("a line's number that nobody could write")
    return Frame(_checked(data["file"], str), line, _checked(data["function"], str), _checked(data["source"], str))


def _checked(value: T, kind: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} instead of {getattr(kind, '__name__', kind)}")
    return value


class _Describer:
    """Walk an exception's chain; each exception once, and not too many."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._texts = Texts(_MAX_ALL)

    def describe(self, exc: BaseException, node_args: object = None) -> Failure:
        self._seen.add(id(exc))
        # The outermost first, so that it is the last whose texts are cut.
        name, module, message, args = self._facts(exc)
        notes = self._notes(exc)
        shown = None if node_args is None else self._texts.shown(node_args)
        cause = self._next(_own(exc, "__cause__"))
        context = None if _own(exc, "__suppress_context__") else self._next(_own(exc, "__context__"))
        return Failure(
            type_name=name,
            module=module,
            message=message,
            args=args,
            notes=notes,
            frames=self._frames(exc),
            cause=cause,
            context=context,
            members=self._members(exc),
            node_args=shown,
        )

    def _facts(self, exc: BaseException) -> tuple[str, str, str, tuple[Any, ...]]:
        kind, text = type(exc), self._texts
        name, module, args = kind.__qualname__, kind.__module__, _own(exc, "args")
        if (module, name) == _STAND_IN and len(args) == 4 and isinstance(args[2], tuple):
            # Celery's stand-in for an exception that can't be pickled tells of which.
            module, name, args, message = args
            return text.of(name), text.of(module), text.of(message), self._args(args)
        return text.cut(name), text.of(module), text.of(exc), self._args(args)

    def _args(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        kept = [self._plain(arg) for arg in args[:MAX_ITEMS]]
        return (*kept, f"… ({len(args)} arguments)") if len(args) > MAX_ITEMS else tuple(kept)

    def _plain(self, value: object) -> Any:
        kind = type(value)
        if value is None or kind in (bool, float) or (kind is int and fits(value)):  # type: ignore[arg-type]
            return value
        return self._texts.cut(value) if kind is str else self._texts.shown(value)  # type: ignore[arg-type]

    def _notes(self, exc: BaseException) -> tuple[str, ...]:
        try:
            notes: Any = exc.__notes__
            kept = list(islice(notes, MAX_ITEMS)) if isinstance(notes, list | tuple) else []
            left_out = [f"… ({len(notes)} notes)"] if len(notes) > len(kept) > 0 else []
        except Exception as broken:  # there are none, or what has been put there raises anything
            if is_interrupt(broken):
                raise
            return ()
        return tuple(map(self._texts.of, kept + left_out))

    def _members(self, exc: BaseException) -> tuple[Failure, ...]:
        inner = BaseExceptionGroup.exceptions.__get__(exc) if isinstance(exc, BaseExceptionGroup) else ()
        members = map(self._next, inner[:MAX_EXCEPTIONS])
        return tuple(member for member in members if member is not None)

    def _next(self, exc: BaseException | None) -> Failure | None:
        if exc is None or id(exc) in self._seen or len(self._seen) >= MAX_EXCEPTIONS:
            return None
        return self.describe(exc)

    def _frames(self, exc: BaseException) -> tuple[Frame, ...]:
        steps = [step for step in traceback.walk_tb(_own(exc, "__traceback__")) if not _is_recording(step)]
        found = list(dropwhile(_is_machinery, steps))
        if len(found) > MAX_FRAMES:
            found = found[: MAX_FRAMES // 2] + found[-MAX_FRAMES // 2 :]
        cut = self._texts.cut
        try:
            extracted = traceback.StackSummary.extract(iter(found), capture_locals=False)
            frames = [Frame(cut(f.filename), f.lineno, cut(f.name), cut(f.line or "")) for f in extracted]
        except Exception as broken:  # whatever the loader of a module raises where its source is read
            if is_interrupt(broken):
                raise
            codes = [(step[0].f_code, step[1]) for step in found]
            frames = [Frame(cut(code.co_filename), line, cut(code.co_name), "") for code, line in codes]
        if isinstance(exc, SyntaxError) and isinstance(exc.filename, str) and exc.filename:
            # The place that matters was never executed, and so is not in the traceback.
            line = exc.lineno if isinstance(exc.lineno, int) and fits(exc.lineno) else None
            source = exc.text.strip() if isinstance(exc.text, str) else ""
            frames.append(Frame(cut(exc.filename), line, "<source>", cut(source)))
        return tuple(frames)


def _own(exc: BaseException, name: str) -> Any:
    """Return an attribute that every exception has, whatever its class has put in its place."""
    return getattr(BaseException, name).__get__(exc)


def _module(step: tuple[FrameType, int]) -> str:
    return str(step[0].f_globals.get("__name__"))


def _is_recording(step: tuple[FrameType, int]) -> bool:
    return _module(step).startswith(_RECORDING)


def _is_machinery(step: tuple[FrameType, int]) -> bool:
    return _module(step) in _MACHINERY
