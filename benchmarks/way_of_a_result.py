"""Print the way of a result through flowstore: which calls it makes, how deep, and through which rooms.

    python -m benchmarks.way_of_a_result            the table
    python -m benchmarks.way_of_a_result --calls    each call too, as a tree
    python -m benchmarks.way_of_a_result --time     what storing a result in memory adds to a task

A call is counted when it enters a Python function of flowstore or of an adapter. A room is a package directly in
``flowstore/`` or ``storages/``; what lies loose in one of the two is a room of that name.
"""

from __future__ import annotations

import argparse
import itertools
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from celery import Celery
from celery.app.trace import build_tracer

import flowstore
from flowstore import FlowStore, storages

VALUE = {"id": 1, "name": "a result", "values": [1, 2, 3]}
ROUNDS, TASKS = 30, 300

_ROOTS = {"flowstore": Path(flowstore.__file__).parent, "storages": Path(str(storages.__file__)).parent}
_COLUMNS = ("calls", "deepest", "modules", "changes of module", "changes of room", "rooms")


@dataclass(frozen=True)
class Call:
    """A call of a function of flowstore's."""

    module: str
    function: str
    depth: int

    @property
    def room(self) -> str:
        return "/".join(self.module.split("/")[:2]) if self.module.count("/") > 1 else self.module.split("/")[0]


@dataclass
class Way:
    """The calls between two moments, and how the control went from module to module, returns included."""

    calls: list[Call] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)

    def figures(self) -> list[int]:
        rooms = [Call(module, "", 0).room for module in self.modules]
        return [
            len(self.calls),
            max(call.depth for call in self.calls),
            len(set(self.modules)),
            _changes(self.modules),
            _changes(rooms),
            len(set(rooms)),
        ]

    def rooms(self) -> list[str]:
        """Return the rooms in the order in which they are entered first."""
        return list(dict.fromkeys(Call(module, "", 0).room for module in self.modules))


def _changes(names: list[str]) -> int:
    return sum(one != other for one, other in itertools.pairwise(names))


class Profile:
    """Follow what a call does, from the return of a function or from its beginning, to the driver's call and on.

    Attributes:
        to_driver: the way up to the first call of SQLite's.
        whole: the way to the end.
    """

    def __init__(self, after: CodeType | None = None) -> None:
        self.to_driver, self.whole = Way(), Way()
        self._after = after
        self._begun, self._driven = after is None, False
        self._modules: dict[CodeType, str | None] = {}

    @contextmanager
    def follow(self) -> Iterator[None]:
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "return" and frame.f_code is self._after:
            self._begun = True
            if (inside := self._first_of_ours(frame.f_back)) is not None:
                # The function by which flowstore has called the task: where the way begins.
                self._add(inside)
        elif not self._begun:
            return
        elif event == "c_call" and isinstance(getattr(arg, "__self__", None), sqlite3.Cursor):
            self._driven = True
        elif event == "call" and self._module(frame.f_code) is not None:
            self._add(frame)
        elif event == "return" and (back := self._first_of_ours(frame.f_back)) is not None:
            self._move(str(self._module(back.f_code)))

    def _add(self, frame: FrameType) -> None:
        module, depth = str(self._module(frame.f_code)), 0
        outer: FrameType | None = frame
        while outer is not None:
            depth += self._module(outer.f_code) is not None
            outer = outer.f_back
        call = Call(module, frame.f_code.co_qualname, depth)
        for way in self._open():
            way.calls.append(call)
        self._move(module)

    def _move(self, module: str) -> None:
        for way in self._open():
            way.modules.append(module)

    def _open(self) -> list[Way]:
        return [self.whole] if self._driven else [self.to_driver, self.whole]

    def _first_of_ours(self, frame: FrameType | None) -> FrameType | None:
        while frame is not None and self._module(frame.f_code) is None:
            frame = frame.f_back
        return frame

    def _module(self, code: CodeType) -> str | None:
        """Return a module as ``flowstore/store/operations``; ``None`` for one that is not flowstore's."""
        if code not in self._modules:
            self._modules[code] = _name_of(Path(code.co_filename))
        return self._modules[code]


def _name_of(path: Path) -> str | None:
    for name, root in _ROOTS.items():
        if path.is_relative_to(root):
            return str(Path(name, path.relative_to(root).with_suffix("")))
    return None


def answer() -> dict[str, Any]:
    return VALUE


def traced(app: Celery, name: str) -> Callable[[], None]:
    """Return what runs a task once, as a process of a worker does."""
    task = app.tasks[name]
    trace = build_tracer(name, task, app=app)

    def run() -> None:
        task_id = str(uuid.uuid4())
        header = {"flow": "f", "run": "r", "sent": time.time()}
        outcome = trace(task_id, (), {}, {"id": task_id, "root_id": "r", "flowstore": header, "hostname": "w@here"})
        if isinstance(outcome.retval, Exception) or outcome[1] is not None:
            raise AssertionError(outcome)

    return run


@contextmanager
def worker_of(storage: dict[str, Any] | None) -> Iterator[tuple[FlowStore | None, Callable[[], None]]]:
    """Give an app with one task, attached to a store with that storage, and what runs the task once."""
    with Celery("way", broker="memory://", backend="disabled://", set_as_current=False) as app:
        store = None
        if storage is not None:
            store = FlowStore({"storages": [{"name": "S", **storage}], "global": {"default_storage": "S"}}, app=app)
        app.task(name="answer", shared=False)(answer)
        app.finalize()
        try:
            yield store, traced(app, "answer")
        finally:
            if store is not None:
                store.close()


def ways(path: str) -> dict[str, Profile]:
    """Return the ways of a result into a SQLite file, and out of it; all caches are warm."""
    sqlite = {"classname": "SqlStorage", "configuration": {"connection_string": f"sqlite:///{path}"}}
    with worker_of(sqlite) as (store, run):
        assert store is not None
        stored = [("f", "t", str(number)) for number in range(10)]
        for key in stored[:5]:
            run()
            store.store(*key, VALUE)
            store.retrieve(*key)
        calls: dict[str, tuple[Profile, Callable[[], object]]] = {
            "a task returns": (Profile(answer.__code__), run),
            "store()": (Profile(), lambda: store.store(*stored[7], VALUE)),
            "retrieve()": (Profile(), lambda: store.retrieve(*stored[7])),
        }
        for profile, call in calls.values():
            with profile.follow():
                call()
        return {name: profile for name, (profile, _) in calls.items()}


def show(found: dict[str, Profile], calls: bool) -> None:
    lines = [["", *_COLUMNS]]
    for name, profile in found.items():
        lines.append([f"{name} → the driver is called", *map(str, profile.to_driver.figures())])
        lines.append([f"{name} → the end", *map(str, profile.whole.figures())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(one.ljust(width) for one, width in zip(line, widths, strict=True)).rstrip())
    for name, profile in found.items():
        print(f"\n{name}: {' → '.join(profile.to_driver.rooms())}")
        for call in profile.whole.calls if calls else ():
            print(f"{'  ' * call.depth}{call.module}: {call.function}")


def show_time() -> None:
    """Print the microseconds of a task, without flowstore and with its result stored in memory."""
    figures = []
    with worker_of(None) as (_, alone), worker_of({"classname": "MemoryStorage"}) as (_, stored):
        for run in (alone, stored):
            run()
        # In turns, so that both meet the same noise; the quietest rounds count.
        rounds = [[_seconds(run) for run in (alone, stored)] for _ in range(ROUNDS)]
        figures = [statistics.quantiles(column, n=4)[0] / TASKS * 1e6 for column in zip(*rounds, strict=True)]
    print(f"a task: {figures[0]:.1f} µs; stored in memory: {figures[1]:.1f} µs; {figures[1] - figures[0]:.1f} µs more")


def _seconds(run: Callable[[], None]) -> float:
    begun = time.process_time()
    for _ in range(TASKS):
        run()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", action="store_true", help="print each call too")
    parser.add_argument("--time", action="store_true", help="measure what storing adds to a task")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(ways(f"{folder}/way.db"), options.calls)
    if options.time:
        show_time()


if __name__ == "__main__":
    main()
