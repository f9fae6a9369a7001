"""Data on stdout: as a table, JSON, JSON lines, or names only."""

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
    "-o", "--output", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: what it is called.
        cell: gives what it shows of a row.
        right: whether it holds numbers.
        below: whether a terminal shows it on a line of its own below the rest, because it is long.
        style: gives the colour of a row's cell.
    """

    heading: str
    cell: Callable[[Row], object]
    right: bool = False
    below: bool = False
    style: Callable[[Row], str] = lambda row: ""

    def text(self, row: Row) -> str:
        value = self.cell(row)
        return "" if value is None else printable(str(value))


def state_style(state: object) -> str:
    """Return the colour of a task's state, which is always written out too."""
    return {"SUCCESS": "green", "FAILURE": "bold red", "REVOKED": "magenta", "RETRY": "yellow"}.get(str(state), "")


def print_rows(form: str, columns: Sequence[Column], rows: Iterable[Row], name: Callable[[Row], Sequence[str]]) -> None:
    """Print rows.

    Args:
        form: one of ``FORMATS``.
        columns: for a table.
        name: the parts of a row's name, which are printed with tabs between.
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
    """Print a value as JSON that people can read."""
    click.echo(to_json(value, indent=2))


def to_json(value: object, indent: int | None = None) -> str:
    """Return a value as JSON that can do nothing to a terminal."""
    return printable_json(json.dumps(value, indent=indent, ensure_ascii=False))


def console(*, err: bool = False) -> Console:
    """Return a rich console. Away from a terminal it uses no colours, and lines are as long as they are."""
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process here

    stream = sys.stderr if err else sys.stdout
    terminal = stream.isatty()
    return _Console(file=stream, highlight=False, markup=False, emoji=False, width=None if terminal else 100_000)


def _print_table(columns: Sequence[Column], rows: list[Row]) -> None:
    """Print aligned columns. A row that is wider than the terminal goes on in its next line, so that ids stay whole."""
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
        found = Text()
        for text, style, width, column in zip(texts, styles, widths, aligned, strict=True):
            padding = " " * (width - cell_len(text))
            found.append(padding + text if column.right else text, style)
            found.append("  " if column.right else padding + "  ")
        found.rstrip()
        return found

    target.print(line(headings, ["bold"] * len(aligned)), soft_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        target.print(line(texts, [column.style(row) for column in aligned]), soft_wrap=True)
        for column in below:
            target.print(Text(f"  {column.text(row)}", column.style(row)), soft_wrap=True)
