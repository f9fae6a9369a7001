"""An exception as data, and the exception that carries it back.

A failed task's exception is described, not pickled: reading the description imports nothing and calls no constructor of
the original class. What is kept is bounded, so that a runaway traceback can't fill a storage.
"""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import dropwhile
from types import FrameType
from typing import Any, Final

from flowstore.errors import FlowstoreError
from flowstore.record import Key

MAX_EXCEPTIONS: Final = 64
"""Exceptions described in one failure: causes, contexts and group members together."""
MAX_FRAMES: Final = 100
"""Frames kept of one traceback: the outermost and the innermost half."""
MAX_TEXT: Final = 10_000
"""Characters kept of a message, a note or a source line."""

_MACHINERY: Final = frozenset({"celery.app.trace", "celery.app.autoretry", "flowstore.celery.recording"})
"""Modules whose frames say nothing about a task where a traceback begins with them."""

_short = reprlib.Repr()
_short.maxlevel = 4
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 20
_short.maxstring = _short.maxother = 1000


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
        """Read what ``to_dict`` wrote; names that are not known here are passed over."""

        def nested(name: str) -> Failure | None:
            inner = data.get(name)
            return None if inner is None else cls.from_dict(inner)

        return cls(
            type_name=data["type_name"],
            module=data["module"],
            message=data["message"],
            args=tuple(data.get("args", ())),
            notes=tuple(data.get("notes", ())),
            frames=tuple(Frame(f["file"], f["line"], f["function"], f["source"]) for f in data.get("frames", ())),
            cause=nested("cause"),
            context=nested("context"),
            members=tuple(cls.from_dict(member) for member in data.get("members", ())),
            node_args=data.get("node_args"),
        )

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


class _Describer:
    """Walk an exception's chain; each exception once, and not too many."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def describe(self, exc: BaseException, node_args: object = None) -> Failure:
        self._seen.add(id(exc))
        cause = self._next(exc.__cause__)
        context = None if exc.__suppress_context__ else self._next(exc.__context__)
        inner = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
        members = [self._next(member) for member in inner]
        return Failure(
            type_name=type(exc).__qualname__,
            module=type(exc).__module__,
            message=_text(exc),
            args=tuple(_plain(arg) for arg in exc.args),
            notes=_notes(exc),
            frames=_frames(exc),
            cause=cause,
            context=context,
            members=tuple(member for member in members if member is not None),
            node_args=None if node_args is None else _safe_repr(node_args),
        )

    def _next(self, exc: BaseException | None) -> Failure | None:
        if exc is None or id(exc) in self._seen or len(self._seen) >= MAX_EXCEPTIONS:
            return None
        return self.describe(exc)


def _frames(exc: BaseException) -> tuple[Frame, ...]:
    found = list(dropwhile(_is_machinery, traceback.walk_tb(exc.__traceback__)))
    if len(found) > MAX_FRAMES:
        found = found[: MAX_FRAMES // 2] + found[-MAX_FRAMES // 2 :]
    summary = traceback.StackSummary.extract(iter(found), capture_locals=False)
    frames = [Frame(_clean(f.filename), f.lineno, _clean(f.name), _cut(f.line or "")) for f in summary]
    if isinstance(exc, SyntaxError) and exc.filename:
        # The place that matters was never executed, and so is not in the traceback.
        frames.append(Frame(_clean(exc.filename), exc.lineno, "<source>", _cut((exc.text or "").strip())))
    return tuple(frames)


def _is_machinery(step: tuple[FrameType, int]) -> bool:
    return step[0].f_globals.get("__name__") in _MACHINERY


def _plain(value: object) -> Any:
    if value is None or type(value) in (bool, int, float):
        return value
    return _cut(value) if type(value) is str else _safe_repr(value)


def _notes(exc: BaseException) -> tuple[str, ...]:
    notes = getattr(exc, "__notes__", None)
    return tuple(map(_text, notes)) if isinstance(notes, list | tuple) else ()


def _text(value: object) -> str:
    try:
        return _cut(str(value))
    except Exception as broken:
        return f"<no text: str() of it raised {type(broken).__name__}>"


def _safe_repr(value: object) -> str:
    try:
        return _cut(_short.repr(value))
    except Exception as broken:
        return f"<no repr: repr() of it raised {type(broken).__name__}>"


def _cut(text: str) -> str:
    return _clean(text) if len(text) <= MAX_TEXT else _clean(text[:MAX_TEXT]) + f"… ({len(text)} characters)"


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
