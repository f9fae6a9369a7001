"""What a flow run was started as: its canvas, in which each member has a name, a place and an id.

The canvas is known before anything is sent. Where the result will be, which tasks the run needs, what comes after what,
and what never ran, all follow from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowstore.errors import CorruptError


@dataclass(frozen=True, slots=True)
class Member:
    """A task of a canvas: its name as stored, and its id."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Parts that follow each other: two at least."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Parts that run side by side, in the order of their results."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Chord:
    """Parts that run side by side, and the part that follows when all of them are done."""

    header: tuple[Part, ...]
    body: Part


Part = Member | Chain | Group | Chord


class Plan:
    """Where a flow run's result will be found, and the tasks that have to succeed for it.

    Attributes:
        result: ``[task name, task id]`` of the last task, or ``{"group": [...]}`` of such.
        members: the ids of all tasks of the canvas: if one of them fails, there will be no result.
        canvas: the canvas; ``None`` in records of runs that were started before it was stored.
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
        """Return plain data for the run's record, in which each task's name stands once."""
        if self.canvas is None:
            return {"result": self.result, "members": list(self.members)}
        names: dict[str, int] = {}
        canvas = _packed(self.canvas, names)
        # A result that is not where the canvas ends: Celery's own answer, where a task chose its id itself.
        other = {} if self.result == _result(self.canvas) else {"result": self.result}
        return {"names": list(names), "canvas": canvas, **other}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan of a run's record.

        Raises:
            CorruptError: it is none.
        """
        try:
            if "canvas" not in data:
                return cls(data["result"], tuple(data["members"]))
            plan = cls.of(_unpacked(data["canvas"], data["names"]))
            if "result" in data:
                plan.result = data["result"]
            return plan
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as exc:
            raise CorruptError("the record of a run does not hold what was started") from exc

    def finals(self) -> list[tuple[str, str]]:
        """Return names and ids of the tasks whose results the run results in, each once."""
        return list(dict.fromkeys(_leaves(self.result)))

    def assembled(self, found: Mapping[tuple[str, str], Any]) -> Any:
        """Return the run's result, made of the results of its last tasks."""
        return _assembled(self.result, found)

    def parents(self) -> dict[str, tuple[Member, ...]]:
        """Return of each member that follows others, by its id, those that it follows directly."""
        found: dict[str, tuple[Member, ...]] = {}
        if self.canvas is not None:
            _note_parents(self.canvas, (), found)
        return found


def members_of(part: Part) -> Iterator[Member]:
    """Iterate over all tasks of a canvas, in its order."""
    if isinstance(part, Member):
        yield part
    elif isinstance(part, Chord):
        for one in (*part.header, part.body):
            yield from members_of(one)
    else:
        for one in part.parts:
            yield from members_of(one)


def last_of(part: Part) -> tuple[Member, ...]:
    """Return the tasks with which a part of a canvas is done."""
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
