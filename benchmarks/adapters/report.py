"""Print what was measured, and keep it in a file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.adapters.contenders import OURS, RAW, Subject
from benchmarks.adapters.measuring import THREADS, Measured, Threaded, median_ratio
from benchmarks.adapters.values import SMALL

_TARGETS: Final = {"single small": 1.3, "single large": 1.15, "batch": 1.3}


class Report:
    """Tables on a console, one adapter after the other, and the figures behind them."""

    def __init__(self, console: Console, options: dict[str, Any]) -> None:
        self._console = console
        self._figures: dict[str, Any] = {"python": platform.python_version(), "options": options, "adapters": {}}

    def show(self, subject: Subject, measured: Sequence[Measured], threaded: Threaded | None) -> None:
        """Print the tables of one adapter."""
        others = [name for name in subject.contenders if name not in (OURS, RAW)]
        table = Table(title=f"{subject.name}: {subject.server}", box=box.SIMPLE, title_justify="left")
        for heading in ("", "size", "flowstore µs", "x raw", "min-max", "target", "CPU µs", "CPU x raw"):
            table.add_column(heading, justify="left" if heading in ("", "size") else "right", no_wrap=True)
        for name in others:
            table.add_column(f"{name} x raw", justify="right", no_wrap=True)
        for one in measured:
            table.add_row(*_cells(one, others))
        self._console.print(table)
        if threaded is not None:
            self._console.print(_of_threads(threaded))
        for note in subject.notes:
            self._console.print(f"  {note}", style="dim", highlight=False)
        self._figures["adapters"][subject.name] = {
            "server": subject.server,
            "operations": [{**asdict(one), "ratios": _ratios(one)} for one in measured],
            "threads": None if threaded is None else threaded.pairs,
        }

    def skip(self, name: str, why: str) -> None:
        """Print that an adapter was not measured."""
        self._console.print(f"{name}: not measured: {why}", style="yellow", highlight=False)
        self._figures["adapters"][name] = {"missing": why}

    def save(self, path: Path) -> None:
        """Write all figures to a JSON file."""
        self._figures["load_average"] = os.getloadavg()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._figures, indent=1) + "\n")
        self._console.print(f"all figures are in {path}", highlight=False)


def _cells(one: Measured, others: Sequence[str]) -> list[str]:
    ours, raw = one.times[OURS], one.times[RAW]
    ratio, least, most = median_ratio(ours.wall, raw.wall)
    target = target_of(one)
    style = "green" if ratio <= target else "red"
    compared = [
        f"{median_ratio(one.times[name].wall, raw.wall)[0]:.2f}" if name in one.times else "-" for name in others
    ]
    return [
        one.operation,
        one.size,
        f"{median(ours.wall) * 1e6:.1f}",
        f"[{style}]{ratio:.2f}[/]",
        f"{least:.2f}-{most:.2f}",
        f"{target:.2f}",
        # Of CPU time the least: whatever else runs on the machine only ever adds to it.
        f"{min(ours.cpu) * 1e6:.1f}",
        f"{min(ours.cpu) / min(raw.cpu):.2f}",
        *compared,
    ]


def target_of(one: Measured) -> float:
    """Return the ratio to the raw driver that is not to be exceeded."""
    if one.is_batch:
        return _TARGETS["batch"]
    return _TARGETS["single small" if one.size == SMALL else "single large"]


def _ratios(one: Measured) -> dict[str, Any]:
    raw = one.times[RAW]
    return {
        name: {
            "wall": dict(zip(("median", "min", "max"), median_ratio(times.wall, raw.wall), strict=True)),
            "least_cpu": min(times.cpu) / min(raw.cpu),
        }
        for name, times in one.times.items()
        if name != RAW
    }


def _of_threads(threaded: Threaded) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("store and retrieve, pairs/s")
    for number in THREADS:
        table.add_column(f"{number} thread{'s' if number > 1 else ''}", justify="right")
    table.add_column("16 ÷ 4", justify="right")
    for name, by_number in threaded.pairs.items():
        ratio, least, most = median_ratio(by_number[16], by_number[4])
        rates = [f"{median(by_number[number]):.0f}" for number in THREADS]
        table.add_row(name, *rates, f"{ratio:.2f} ({least:.2f}-{most:.2f})")
    return table
