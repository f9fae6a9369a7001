"""Describing an exception as a ``Failure``.

Whatever the exception's class does, this doesn't raise; whatever it holds, the size of the description is bounded.
"""

from __future__ import annotations

import traceback
from itertools import dropwhile, islice
from types import FrameType
from typing import Any, Final

from flowstore.interrupts import is_interrupt
from flowstore.record.failure import MAX_EXCEPTIONS, Failure, Frame
from flowstore.texts import TextBudget, is_decimal_safe

MAX_FRAMES: Final = 100
"""Frames kept of one traceback: the outermost and the innermost half."""
MAX_ITEMS: Final = 100
"""Arguments kept of one exception, and notes."""
_MAX_ALL: Final = 1_000_000  # characters of all texts of a failure together

_MACHINERY: Final = frozenset({"celery.app.trace", "celery.app.autoretry"})
"""Modules whose frames say nothing about a task at the beginning of a traceback."""
_RECORDING: Final = "flowstore.celery."
"""Modules whose frames are left out everywhere: another library's frames may be outside of them."""
_STAND_IN: Final = ("celery.utils.serialization", "UnpickleableExceptionWrapper")


class Capture:
    """Describe each exception of a chain once, up to ``MAX_EXCEPTIONS``."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._texts = TextBudget(_MAX_ALL)

    def describe(self, exc: BaseException, node_args: object = None) -> Failure:
        self._seen.add(id(exc))
        # The outermost first, so that its texts are the last to be cut.
        name, module, message, args = self._facts(exc)
        notes = self._notes(exc)
        shown = None if node_args is None else self._texts.repr_of(node_args)
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
        kind, texts = type(exc), self._texts
        name, module, args = kind.__qualname__, kind.__module__, _own(exc, "args")
        if (module, name) == _STAND_IN and len(args) == 4 and isinstance(args[2], tuple):
            # Celery's stand-in for an exception that can't be pickled names the original.
            module, name, args, message = args
            return texts.str_of(name), texts.str_of(module), texts.str_of(message), self._args(args)
        return texts.cut(name), texts.str_of(module), texts.str_of(exc), self._args(args)

    def _args(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        kept = [self._plain(arg) for arg in args[:MAX_ITEMS]]
        return (*kept, f"… ({len(args)} arguments)") if len(args) > MAX_ITEMS else tuple(kept)

    def _plain(self, value: object) -> Any:
        kind = type(value)
        if value is None or kind in (bool, float) or (kind is int and is_decimal_safe(value)):  # type: ignore[arg-type]
            return value
        return self._texts.cut(value) if kind is str else self._texts.repr_of(value)  # type: ignore[arg-type]

    def _notes(self, exc: BaseException) -> tuple[str, ...]:
        try:
            notes: Any = exc.__notes__
            kept = list(islice(notes, MAX_ITEMS)) if isinstance(notes, list | tuple) else []
            left_out = [f"… ({len(notes)} notes)"] if len(notes) > len(kept) > 0 else []
        except Exception as broken:  # there are no notes, or a replacement for them raises
            if is_interrupt(broken):
                raise
            return ()
        return tuple(map(self._texts.str_of, kept + left_out))

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
        except Exception as broken:  # the loader of a module may raise anything when its source is read
            if is_interrupt(broken):
                raise
            codes = [(step[0].f_code, step[1]) for step in found]
            frames = [Frame(cut(code.co_filename), line, cut(code.co_name), "") for code, line in codes]
        if isinstance(exc, SyntaxError) and isinstance(exc.filename, str) and exc.filename:
            # The faulty line was never executed, so it is not in the traceback.
            line = exc.lineno if isinstance(exc.lineno, int) and is_decimal_safe(exc.lineno) else None
            source = exc.text.strip() if isinstance(exc.text, str) else ""
            frames.append(Frame(cut(exc.filename), line, "<source>", cut(source)))
        return tuple(frames)


def _own(exc: BaseException, name: str) -> Any:
    """Return an attribute of BaseException, even if the class overrides it."""
    return getattr(BaseException, name).__get__(exc)


def _module(step: tuple[FrameType, int]) -> str:
    return str(step[0].f_globals.get("__name__"))


def _is_recording(step: tuple[FrameType, int]) -> bool:
    return _module(step).startswith(_RECORDING)


def _is_machinery(step: tuple[FrameType, int]) -> bool:
    return _module(step) in _MACHINERY
