"""Whether a history of operations on one record could have happened one after another.

The algorithm is Wing and Gong's, with Lowe's memory of the states that were tried already: "Testing and Verifying
Concurrent Objects" (1993) and "Testing for linearizability" (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

State = tuple[int, str] | None
"""Revision and value of the record, or ``None`` where there is none."""


class Operation(NamedTuple):
    """One call: when it began and ended, what was asked, and what was answered.

    ``expected`` is the revision that a ``put`` depends on, ``None`` for any. ``answer`` is the new revision of a put or
    ``None`` for a conflict, the state that a ``get`` saw, and whether a ``delete`` found something.
    """

    began: int
    ended: int
    name: str
    value: str
    expected: int | None
    answer: object


_IMPOSSIBLE = object()


def after(state: State, operation: Operation) -> object:
    """Return the state after an operation, or ``_IMPOSSIBLE`` if it could not have given that answer."""
    revision = state[0] if state else 0
    if operation.name == "get":
        return state if operation.answer == state else _IMPOSSIBLE
    if operation.name == "delete":
        return None if operation.answer == (state is not None) else _IMPOSSIBLE
    refused = operation.expected is not None and operation.expected != revision
    if operation.answer is None:
        return state if refused else _IMPOSSIBLE
    # Where there is none, any number may be the first.
    if refused or (revision and operation.answer != revision + 1):
        return _IMPOSSIBLE
    return (operation.answer, operation.value)


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Tell whether there is an order of the operations that explains all answers and keeps the order of time."""
    given = [one.answer for one in history if one.name == "put" and one.answer is not None]
    if len(set(given)) < len(given):
        return False  # a revision came again
    operations = sorted(history)
    everything = (1 << len(operations)) - 1
    seen: set[tuple[int, object]] = set()
    stack: list[tuple[int, object]] = [(0, None)]
    while stack:
        done, state = stack.pop()
        if done == everything:
            return True
        # Whatever began before the first of the rest ended may come next.
        earliest_end = min(one.ended for number, one in enumerate(operations) if not done >> number & 1)
        for number, one in enumerate(operations):
            if one.began > earliest_end:
                break
            if done >> number & 1:
                continue
            following = after(state, one)  # type: ignore[arg-type]
            if following is _IMPOSSIBLE:
                continue
            step = (done | 1 << number, following)
            if step not in seen:
                seen.add(step)
                stack.append(step)
    return False
