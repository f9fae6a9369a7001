"""Measure contenders in turns: a small block of calls each, round after round, so that the machine's mood is shared."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks.adapters.contenders import OURS, RAW, Contender, Subject
from benchmarks.adapters.values import BATCH, SMALL, VALUES, fresh_ids

BLOCK_SECONDS: Final = 0.01
THREADS: Final = (1, 4, 16)
_SINGLY: Final = 50
"""How many of a batch are enough where they are done one after the other."""
_PAIRS: Final = 960


@dataclass
class Times:
    """Seconds for one call or one value, a figure for each round: by the clock, and of this process's CPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Measured:
    """What one operation took each contender."""

    operation: str
    size: str
    times: dict[str, Times]

    @property
    def is_batch(self) -> bool:
        return self.operation.endswith(str(BATCH))


@dataclass
class Threaded:
    """How many values a contender stored and retrieved in a second, by number of threads, for each round."""

    pairs: dict[str, dict[int, list[float]]]


def median_ratio(some: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, least and greatest ratio within a round."""
    ratios = [a / b for a, b in zip(some, other, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def operations(subject: Subject, rounds: int, sizes: Sequence[str]) -> Iterator[Measured]:
    """Measure single calls of each size, then batches of small values."""
    for size in sizes:
        contenders = {name: one for name, one in subject.contenders.items() if (name, size) not in subject.skipped}
        stored: dict[str, list[str]] = {name: [] for name in contenders}
        value = VALUES[size]

        def storing(name: str, one: Contender, number: int, value: Any = value, stored: Any = stored) -> _Block:
            ids = fresh_ids(number)
            stored[name] += ids
            return lambda: [one.store(task_id, value) for task_id in ids]

        def retrieving(name: str, one: Contender, number: int, value: Any = value, stored: Any = stored) -> _Block:
            ids = random.choices(stored[name], k=number)
            assert one.retrieve(ids[0]) == value, f"{name} retrieves something else than it was given"
            return lambda: [one.retrieve(task_id) for task_id in ids]

        yield Measured("store", size, _in_turns(contenders, storing, rounds))
        yield Measured("retrieve", size, _in_turns(contenders, retrieving, rounds))
    if SMALL in sizes:
        yield from _batches(subject, max(3, rounds // 4))


_Block = Callable[[], object]
_Preparing = Callable[[str, Contender, int], _Block]


def _in_turns(contenders: Mapping[str, Contender], prepare: _Preparing, rounds: int) -> dict[str, Times]:
    numbers = {name: _number(name, one, prepare) for name, one in contenders.items()}
    return _rounds({name: (one, numbers[name], prepare) for name, one in contenders.items()}, rounds)


def _number(name: str, one: Contender, prepare: _Preparing) -> int:
    """Return how many calls make a block."""
    prepare(name, one, 2)()  # connects, compiles, fills caches
    took = []
    for _ in range(3):
        block = prepare(name, one, 3)
        begin = time.perf_counter()
        block()
        took.append(time.perf_counter() - begin)
    return max(2, min(200, round(BLOCK_SECONDS * 3 / min(took))))


def _batches(subject: Subject, rounds: int) -> Iterator[Measured]:
    value = VALUES[SMALL]
    stored: dict[str, list[str]] = {}

    def storing(name: str, one: Contender, number: int) -> _Block:
        ids = stored[name] = fresh_ids(number)
        items = [(task_id, value) for task_id in ids]
        return lambda: one.store_many(items)

    def retrieving(name: str, one: Contender, number: int) -> _Block:
        ids = stored[name]
        assert list(one.retrieve_many(ids)) == [value] * number, f"{name} retrieves something else"
        return lambda: one.retrieve_many(ids)

    for operation, prepare in ((f"store {BATCH}", storing), (f"retrieve {BATCH}", retrieving)):
        blocks = {name: (one, BATCH if one.batches else _SINGLY, prepare) for name, one in subject.contenders.items()}
        yield Measured(operation, SMALL, _rounds(blocks, rounds))


def _rounds(blocks: Mapping[str, tuple[Contender, int, _Preparing]], rounds: int) -> dict[str, Times]:
    times = {name: Times() for name in blocks}
    order = list(blocks)
    for _ in range(rounds):
        order.append(order.pop(0))
        for name in order:
            one, number, prepare = blocks[name]
            block = prepare(name, one, number)
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            block()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            times[name].wall.append(wall / number)
            times[name].cpu.append(cpu / number)
    return times


def threads(subject: Subject, rounds: int) -> Threaded:
    """Measure small values stored and retrieved by several threads at once."""
    found: dict[str, dict[int, list[float]]] = {name: {number: [] for number in THREADS} for name in (OURS, RAW)}
    for _ in range(rounds):
        for number in THREADS:
            for name in found:
                found[name][number].append(_pairs_a_second(subject.contenders[name], number))
    return Threaded(found)


def _pairs_a_second(one: Contender, number: int) -> float:
    value, each = VALUES[SMALL], _PAIRS // number
    ready, go = threading.Barrier(number + 1), threading.Barrier(number + 1)
    failures: list[BaseException] = []
    ended: list[float] = []

    def work(ids: Sequence[str]) -> None:
        try:
            one.store(fresh_ids(1)[0], value)  # connects
            ready.wait()
            go.wait()
            for task_id in ids:
                one.store(task_id, value)
                one.retrieve(task_id)
            ended.append(time.perf_counter())
        except BaseException as exc:
            failures.append(exc)
            ready.abort()
            go.abort()

    workers = [threading.Thread(target=work, args=(fresh_ids(each),)) for _ in range(number)]
    for worker in workers:
        worker.start()
    begin = 0.0
    with suppress(threading.BrokenBarrierError):
        ready.wait()
        begin = time.perf_counter()
        go.wait()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return each * number / (max(ended) - begin)
