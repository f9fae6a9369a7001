"""The plan of a flow run: its canvas, with the name and id of each task.

It is known before anything is sent. It shows where the result will be, which tasks it depends on, the order of the
tasks, and which of them never ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowstore.errors import CorruptError


@dataclass(frozen=True, slots=True)
class Member:
    """A task of a canvas: the name under which it is stored, and its id."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Two or more parts that run one after the other."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Parts that run in parallel, in the order of their results."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Chord:
    """Parts that run in parallel, and the part that runs after all of them."""

    header: tuple[Part, ...]
    body: Part


Part = Member | Chain | Group | Chord


class Plan:
    """Where the result of a flow run will be, and the tasks it depends on.

    Attributes:
        result: ``[task name, task id]`` of the last task, or ``{"group": [...]}`` of several.
        members: the ids of all tasks of the canvas. If one of them fails, the run has no result.
        canvas: the canvas; ``None`` in old records, which hold none.
    """

    __slots__ = ("canvas", "members", "result")

    def __init__(self, result: Any, members: tuple[str, ...], canvas: Part | None = None) -> None:
        self.result = result
        self.members = members
        self.canvas = canvas

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, canvas: Part) -> Plan:
        """Return the plan of a canvas."""
        return cls(_result(canvas), tuple(dict.fromkeys(member.id for member in members_of(canvas))), canvas)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the record of the run.

        Each task name occurs once.
        """
        if self.canvas is None:
            return {"result": self.result, "members": list(self.members)}
        names: dict[str, int] = {}
        canvas = _packed(self.canvas, names)
        # The result is not where the canvas ends: a task has chosen its id itself.
        other = {} if self.result == _result(self.canvas) else {"result": self.result}
        return {"names": list(names), "canvas": canvas, **other}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan in the record of a run.

        Raises:
            CorruptError: the data is not a plan.
        """
        try:
            if "canvas" not in data:
                return cls(data["result"], tuple(data["members"]))
            plan = cls.of(_unpacked(data["canvas"], data["names"]))
            if "result" in data:
                plan.result = data["result"]
            return plan
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as exc:
            raise CorruptError("the record of a run does not hold a plan") from exc

    def finals(self) -> list[tuple[str, str]]:
        """Return the names and ids of the last tasks, each once."""
        return list(dict.fromkeys(_leaves(self.result)))

    def assembled(self, found: Mapping[tuple[str, str], Any]) -> Any:
        """Return the result of the run, built from those of its last tasks."""
        return _assembled(self.result, found)

    def parents(self) -> dict[str, tuple[Member, ...]]:
        """Return the direct predecessors of tasks, by the id of the task."""
        found: dict[str, tuple[Member, ...]] = {}
        if self.canvas is not None:
            _note_parents(self.canvas, (), found)
        return found


def members_of(part: Part) -> Iterator[Member]:
    """Iterate over all tasks of a canvas, in order."""
    if isinstance(part, Member):
        yield part
    elif isinstance(part, Chord):
        for one in (*part.header, part.body):
            yield from members_of(one)
    else:
        for one in part.parts:
            yield from members_of(one)


def last_of(part: Part) -> tuple[Member, ...]:
    """Return the last tasks of a part of a canvas."""
    if isinstance(part, Member):
        return (part,)
    if isinstance(part, Group):
        return tuple(member for one in part.parts for member in last_of(one))
    return last_of(part.body if isinstance(part, Chord) else part.parts[-1])


def _note_parents(part: Part, before: tuple[Member, ...], found: dict[str, tuple[Member, ...]]) -> None:
    if isinstance(part, Member):
        if before:
            found[part.id] = before
    elif isinstance(part, Chain):
        for one in part.parts:
            _note_parents(one, before, found)
            before = last_of(one)
    elif isinstance(part, Group):
        for one in part.parts:
            _note_parents(one, before, found)
    else:
        header = Group(part.header)
        _note_parents(header, before, found)
        _note_parents(part.body, last_of(header), found)


def _result(part: Part) -> Any:
    if isinstance(part, Member):
        return [part.name, part.id]
    if isinstance(part, Group):
        return {"group": [_result(one) for one in part.parts]}
    return _result(part.body if isinstance(part, Chord) else part.parts[-1])


def _packed(part: Part, names: dict[str, int]) -> Any:
    if isinstance(part, Member):
        return [names.setdefault(part.name, len(names)), part.id]
    if isinstance(part, Chord):
        return {"chord": [_packed(one, names) for one in part.header], "body": _packed(part.body, names)}
    return {type(part).__name__.lower(): [_packed(one, names) for one in part.parts]}


def _unpacked(data: Any, names: list[str]) -> Part:
    if isinstance(data, Mapping):
        if "chord" in data:
            return Chord(tuple(_unpacked(one, names) for one in data["chord"]), _unpacked(data["body"], names))
        kind = Chain if "chain" in data else Group
        return kind(tuple(_unpacked(one, names) for one in data[kind.__name__.lower()]))
    name, task_id = data
    return Member(names[name], task_id)


def _leaves(result: Any) -> Iterator[tuple[str, str]]:
    if isinstance(result, Mapping):
        for part in result["group"]:
            yield from _leaves(part)
    else:
        task_name, task_id = result
        yield task_name, task_id


def _assembled(result: Any, found: Mapping[tuple[str, str], Any]) -> Any:
    if isinstance(result, Mapping):
        return [_assembled(part, found) for part in result["group"]]
    task_name, task_id = result
    return found[task_name, task_id]
