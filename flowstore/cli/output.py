"""Data on stdout, as a table, JSON, JSON lines, or names only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from flowstore.cli.text import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("table", "json", "jsonl", "name")
Row = Mapping[str, Any]

output_option = click.option(
    "-o",
    "--output",
    "form",
    metavar="FORMAT",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="Output format: table, json, jsonl or name.",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: the text above the column.
        cell: returns the value shown for a row.
        right: whether the column is aligned to the right, as numbers are.
        below: whether a terminal shows the value on a separate line below the row, because it is long.
        style: returns the colour of a row's cell.
    """

    heading: str
    cell: Callable[[Row], object]
    right: bool = False
    below: bool = False
    style: Callable[[Row], str] = lambda row: ""

    def text(self, row: Row) -> str:
        value = self.cell(row)
        return "" if value is None else printable(str(value))


def counts(*names: str, bad: Sequence[str]) -> tuple[Column, ...]:
    """Return a column for each number in a row.

    Numbers of ``bad`` are red unless they are 0.
    """
    return tuple(
        Column(
            name.upper(),
            lambda row, name=name: row[name],  # type: ignore[misc]
            right=True,
            style=lambda row, name=name: "red" if name in bad and row[name] else "",  # type: ignore[misc]
        )
        for name in names
    )


def state_style(state: object) -> str:
    """Return the colour of a task's state."""
    return {"SUCCESS": "green", "FAILURE": "bold red", "REVOKED": "magenta", "RETRY": "yellow"}.get(str(state), "")


def print_rows(form: str, columns: Sequence[Column], rows: Iterable[Row], name: Callable[[Row], Sequence[str]]) -> None:
    """Print rows in one of ``FORMATS``.

    Args:
        form: the format.
        columns: the columns of a table.
        name: returns the parts of a row's name; ``name`` prints them separated by tabs.
    """
    if form == "table":
        _print_table(columns, list(rows))
    elif form == "json":
        print_json(list(rows))
    else:
        for row in rows:
            if form == "jsonl":
                click.echo(to_json(row))
            else:
                click.echo("\t".join(printable(part) for part in name(row)))


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(to_json(value, indent=2))


def to_json(value: object, indent: int | None = None) -> str:
    """Return a value as JSON without control characters."""
    return printable_json(json.dumps(value, indent=indent, ensure_ascii=False))


def console(*, err: bool = False) -> Console:
    """Return a rich console; without a terminal, no colours, no wrapping."""
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process here

    stream = sys.stderr if err else sys.stdout
    terminal = stream.isatty()
    return _Console(file=stream, highlight=False, markup=False, emoji=False, width=None if terminal else 100_000)


def _print_table(columns: Sequence[Column], rows: list[Row]) -> None:
    """Print aligned columns.

    The terminal wraps long rows, so that ids stay whole.
    """
    from rich.cells import cell_len
    from rich.text import Text

    if not rows:
        return
    target = console()
    aligned = [column for column in columns if not (column.below and target.is_terminal)]
    below = [column for column in columns if column not in aligned]
    cells = [[column.text(row) for column in aligned] for row in rows]
    headings = [column.heading for column in aligned]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]

    def line(texts: Sequence[str], styles: Sequence[str]) -> Text:
        joined = Text()
        for text, style, width, column in zip(texts, styles, widths, aligned, strict=True):
            padding = " " * (width - cell_len(text))
            joined.append(padding + text if column.right else text, style)
            joined.append("  " if column.right else padding + "  ")
        joined.rstrip()
        return joined

    target.print(line(headings, ["bold"] * len(aligned)), soft_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        target.print(line(texts, [column.style(row) for column in aligned]), soft_wrap=True)
        for column in below:
            target.print(Text(f"  {column.text(row)}", column.style(row)), soft_wrap=True)
