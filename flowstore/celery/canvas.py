"""Canvases: assign ids before anything is sent, describe the layout.

Celery keeps an id that a signature already has. So Celery sends a copy of the canvas with ids in all its signatures as
it would send the original, and the plan of the run can be stored first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import Celery, uuid
from celery.app.task import Task
from celery.canvas import Signature, _chain, _chord, chunks, group, maybe_signature, task_name_from, xmap, xstarmap
from celery.utils.functional import _regen, regen

from flowstore.store.plan import Chain, Chord, Group, Member, Part

Naming = Callable[[str], str]


def prepared(canvas: Any, app: Celery, options: dict[str, Any]) -> Signature:
    """Return a copy of a canvas in which every task has an id.

    The original is not changed, so that it can be started again.

    Args:
        canvas: a signature, a mapping that was one, or a task, for its signature without arguments.
        options: for ``apply_async`` of the copy; changed if the copy needs other options.

    Raises:
        TypeError: the canvas is none of these.
    """
    if isinstance(canvas, Task) or (not isinstance(canvas, Mapping) and hasattr(canvas, "s")):
        canvas = canvas.s()
    if isinstance(canvas, dict) and not isinstance(canvas, Signature):
        canvas = maybe_signature(dict(canvas), app=app)
    if not isinstance(canvas, Signature):
        raise TypeError(f"can't start a {type(canvas).__name__} as a flow: pass a task, a signature or a canvas")
    if isinstance(canvas, chunks):  # as its apply_async does; clone() would turn it into a single task
        options.setdefault("route_name", task_name_from(canvas.kwargs.get("task")))
        canvas = canvas.group()
    if isinstance(canvas, xmap | xstarmap):  # clone() would turn it into another kind of signature
        copy = type(canvas).from_dict({**canvas, "options": dict(canvas.options)}, app=canvas._app)
        copy.options.setdefault("task_id", options.get("task_id") or uuid())
        return copy
    if isinstance(canvas, _chord) and (options.get("kwargs") or {}).get("body"):
        options["kwargs"] = dict(options["kwargs"])
        canvas = canvas.clone()
        canvas.body = options["kwargs"].pop("body")
    given = options.get("task_id") or canvas.options.get("task_id")
    copy = _with_ids(canvas, None if isinstance(canvas, group) else given, app)
    if not isinstance(canvas, group | _chain | _chord):
        copy.args = canvas.args  # as they are shown in the message
        if given is not None:
            copy.options["task_id"] = given
    return copy


def part_of(signature: Signature, name: Naming) -> Part | None:
    """Return the layout of a prepared signature; ``None`` without tasks.

    Args:
        name: returns the name under which a task is stored.
    """
    if isinstance(signature, group):
        parts = tuple(_side_by_side(signature.tasks, name, frozen=False))
        # Celery returns the results of the inner group if it is the only member of the outer one.
        return parts[0] if len(parts) == 1 and ends_with_group(parts[0]) else Group(parts)
    return _part(signature, name)


def _with_ids(signature: Any, last_id: Any, app: Celery) -> Any:
    """Copy a signature with ids; ``last_id`` is for its last task.

    A task that has an id keeps it.
    """
    copy = maybe_signature(signature, clone=True)
    if isinstance(copy, _chain):
        tasks = list(copy.tasks)
        last = len(tasks) - 1
        copy.tasks = [_with_ids(task, last_id if index == last else None, app) for index, task in enumerate(tasks)]
    elif isinstance(copy, group):
        copy.tasks = _each_with_id(copy.tasks, app)
    elif isinstance(copy, _chord):
        if isinstance(copy.tasks, group):
            header = copy.tasks.clone()
            header.tasks = _each_with_id(header.tasks, app)
            copy.tasks = header
        else:
            copy.tasks = _each_with_id(copy.tasks, app)
        copy.body = None if copy.body is None else _with_ids(copy.body, last_id, app)
    else:
        copy.options.setdefault("task_id", last_id or uuid())
    return copy


def _each_with_id(tasks: Any, app: Celery) -> Any:
    copies = [_with_ids(task, None, app) for task in tasks]
    # Celery freezes groups in a generator differently from groups in a list.
    return regen(iter(copies)) if isinstance(tasks, _regen) else copies


def _part(signature: Any, name: Naming) -> Part | None:
    if isinstance(signature, _chain):
        return _one_after_another(signature.tasks, name)
    if isinstance(signature, group):
        return Group(tuple(_side_by_side(signature.tasks, name)))
    if isinstance(signature, _chord):
        tasks = signature.tasks.tasks if isinstance(signature.tasks, group) else signature.tasks
        header = tuple(_side_by_side(tasks, name))
        body = _part(signature.body, name)
        return Chord(header, body) if header and body is not None else body
    return Member(name(signature.task), str(signature.options["task_id"]))


def _side_by_side(tasks: Any, name: Naming, frozen: bool = True) -> Iterator[Part]:
    """Yield the parts of a group; inner groups are flattened.

    Empty parts are left out.

    Args:
        frozen: whether the group is frozen before it is sent. Celery then reverses the members of inner groups, except
            of those from a generator; a group that is sent at once keeps its order.
    """
    lazy = frozen and isinstance(tasks, _regen)
    pending = list(tasks)[::-1]
    while pending:
        task = pending.pop()
        if isinstance(task, group) and not lazy:
            inner = list(task.tasks)
            pending += inner if frozen else inner[::-1]
        elif (part := _part(task, name)) is not None:
            yield part


def _one_after_another(tasks: Any, name: Naming) -> Part | None:
    parts: list[Part] = []
    empty: Part | None = None  # an empty group is left out unless the chain has nothing else
    for task in _spliced(tasks):
        part = _part(task, name)
        if part is None:
            continue
        if isinstance(part, Group) and not part.parts:
            empty = part
            continue
        if parts and (joined := _joined(parts[-1], part)) is not None:
            parts[-1] = joined
        else:
            parts.append(part)
    if len(parts) > 1:
        return Chain(tuple(parts))
    return parts[0] if parts else empty


def _spliced(tasks: Any) -> Iterator[Any]:
    """Yield the tasks of a chain; inner chains and groups of one unpacked."""
    pending = list(tasks)[::-1]
    while pending:
        task = pending.pop()
        if isinstance(task, group) and len(members := list(task.tasks)) == 1:
            (task,) = members
        if isinstance(task, _chain):
            pending += list(task.tasks)[::-1]
        else:
            yield task


def ends_with_group(part: Part) -> bool:
    """Return whether the result of a part is that of a group."""
    if isinstance(part, Chain | Chord):
        return ends_with_group(part.body if isinstance(part, Chord) else part.parts[-1])
    return isinstance(part, Group)


def _joined(before: Part, after: Part) -> Part | None:
    """Return the chord of a group and its successor.

    Returns ``None`` if ``before`` does not end with a group.
    """
    if isinstance(before, Group):
        return Chord(before.parts, after)
    if isinstance(before, Chord) and (body := _joined(before.body, after)) is not None:
        return Chord(before.header, body)
    return None
