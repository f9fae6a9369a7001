"""Data on stdout: as a table, JSON, JSON lines, or names only."""

from __future__ import annotations

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
    """A column of a table: its heading, what it shows of a row, and whether it holds numbers."""

    heading: str
    cell: Callable[[Row], object]
    right: bool = False
    style: Callable[[Row], str] = lambda row: ""

    def text(self, row: Row) -> str:
        value = self.cell(row)
        return "" if value is None else printable(str(value))


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
    import json

    return printable_json(json.dumps(value, indent=indent, ensure_ascii=False))


def console(*, err: bool = False) -> Console:
    """Return a rich console. Away from a terminal it uses no colours, and lines are as long as they are."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    terminal = stream.isatty()
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=None if terminal else 100_000)


def _print_table(columns: Sequence[Column], rows: list[Row]) -> None:
    if not rows:
        return
    if sys.stdout.isatty():
        _print_rich_table(columns, rows)
        return
    cells = [[column.heading for column in columns], *([column.text(row) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        padded = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _print_rich_table(columns: Sequence[Column], rows: list[Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(column.text(row), style=column.style(row)) for column in columns))
    console().print(table)
