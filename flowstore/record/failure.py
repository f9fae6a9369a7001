"""Exceptions as data, and the exception that carries one back.

A task's exception is described, not pickled: reading the description imports nothing and calls no constructor of the
original class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from flowstore.errors import FlowstoreError
from flowstore.record.keys import Key
from flowstore.texts import is_decimal_safe

MAX_EXCEPTIONS: Final = 64
"""Exceptions described in one failure: causes, contexts and group members together."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a traceback; ``source`` is its text, if readable."""

    file: str
    line: int | None
    function: str
    source: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The description of an exception.

    Attributes:
        type_name, module: of the exception's class.
        message: its ``str()``.
        args: the exception's arguments; anything but ``None``, booleans, numbers and strings as its ``repr``.
        notes: what ``add_note`` added.
        frames: the traceback, outermost call first.
        cause, context: ``__cause__`` and ``__context__``; ``context`` is ``None`` if ``raise ... from`` suppressed it.
        members: the exceptions in an exception group.
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
        """Describe an exception and its whole chain.

        Args:
            node_args: the arguments of the failed task; kept as text.
        """
        from flowstore.record.capture import Capture  # which makes failures

        return Capture().describe(exc, node_args)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Failure:
        """Parse what ``to_dict`` returned; unknown names are ignored.

        Raises:
            KeyError, TypeError: it is something else.
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
        """Return the traceback of the whole chain, as Python prints it.

        Without a final newline.
        """
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
    """The stored error of a task.

    Its text shows the whole chain of exceptions.

    Attributes:
        failure: the description of the exception.
        key: the task's key.
        headers: the record's headers, such as ``attempt``, ``state``, ``run_id``, ``started_at``.
    """

    def __init__(self, failure: Failure, key: Key, headers: Mapping[str, Any]) -> None:
        super().__init__(failure, key, headers)
        self.failure = failure
        self.key = key
        self.headers = headers

    @property
    def attempt(self) -> int | None:
        """The attempt that failed, counted from 1, or None if unknown."""
        return self.headers.get("attempt")

    def __str__(self) -> str:
        return f"task {self.key} failed with {self.failure.summary}\n\n{self.failure.format()}"

    def __repr__(self) -> str:
        return f"<RemoteTaskError {self.key}: {self.failure.summary}>"


class _Reader:
    """Read a failure from untrusted data, up to ``MAX_EXCEPTIONS``."""

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
    if line is not None and not is_decimal_safe(line):
        raise TypeError("a line number that is too long to be printed")
    return Frame(_checked(data["file"], str), line, _checked(data["function"], str), _checked(data["source"], str))


def _checked(value: T, kind: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} instead of {getattr(kind, '__name__', kind)}")
    return value
