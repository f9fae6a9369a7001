"""``flowstore demo``: run a flow with a real worker, without a server."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowstore.cli import output, text
from flowstore.cli.status import EXIT_ERROR, say
from flowstore.cli.tree import print_tree

if TYPE_CHECKING:
    from flowstore.demo.run import DemoOutcome, DemoProgress
    from flowstore.demo.sources import Selection


@click.command()
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in this new or empty folder. Default: a temporary one.",
)
@click.option(
    "--files",
    metavar="N",
    type=click.IntRange(min=1),
    default=160,
    show_default=True,
    help="How many files to inspect.",
)
@click.option(
    "--path",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="Inspect the Python files of this folder. Default: the standard library.",
)
def demo(keep: Path | None, files: int, path: Path | None) -> None:
    """Run a flow over real files with a Celery worker.

    No server is needed. Each module of Python's standard library is inspected by one task; these tasks are the header
    of a chord, whose body adds up the results. Some files are not valid Python, so their tasks fail, and one task fails
    at first and is retried.
    """
    from flowstore.demo.process import DemoError, log_tail
    from flowstore.demo.run import run_survey, write_configuration
    from flowstore.demo.sources import choose

    folder = _folder(keep)
    try:
        selection = choose(path, files, folder / "unfinished.py")
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    configuration = write_configuration(folder)
    _introduce(folder, selection)
    try:
        with _progress() as report, run_survey(folder, selection, report) as outcome:
            report(None)
            _present(outcome, configuration)
            say("\nThe worker is shutting down.")
    except DemoError as exc:
        say(f"error: {text.one_line(str(exc))}")
        say(f"Last lines of the worker's log, {folder / 'worker.log'}:")
        say(text.printable(log_tail(folder), keep=text.LINES))
        raise click.exceptions.Exit(EXIT_ERROR) from None


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="flowstore-demo-")).resolve()
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise click.UsageError(f"folder {keep} is not empty; --keep needs a new or empty one")
    return keep.resolve()


def _introduce(folder: Path, selection: Selection) -> None:
    say(f"Surveying {len(selection.sound)} modules of {selection.title} and {len(selection.broken)} broken files,")
    say(f"with a Celery worker of two processes. Everything is stored in {folder}.")
    say("")


@contextmanager
def _progress() -> Iterator[Callable[[DemoProgress | None], None]]:
    """Yield a function that shows progress on stderr; ``None`` ends it.

    Shows a bar on a terminal, and a few lines otherwise.
    """
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=output.console(err=True), transient=True) as bar:
        task = bar.add_task("starting the worker", total=None)

        def report(progress: DemoProgress | None) -> None:
            if progress is None:
                bar.stop()
                return
            description = f"surveying, {progress.failed} failed" if progress.failed else "surveying"
            bar.update(task, total=progress.total, completed=progress.finished, description=description)

        yield report


class _Lines:
    """Progress as lines: one at the start, and one at each quarter."""

    def __init__(self) -> None:
        self._quarter = -1

    def __call__(self, progress: DemoProgress | None) -> None:
        if progress is None:
            return
        quarter = 4 * progress.finished // progress.total
        if quarter > self._quarter:
            self._quarter = quarter
            say(f"{progress.finished} of {progress.total} tasks finished, {progress.failed} of them failed")


def _present(outcome: DemoOutcome, configuration: Path) -> None:
    from rich.text import Text

    console = output.console()

    def heading(title: str) -> None:
        console.print()
        console.print(Text(title, style="bold underline"))

    heading("What ran")
    print_tree(outcome.run, outcome.tasks, complete=False)
    failed, retried = outcome.examples()
    heading("One of the stored errors")
    error = outcome.store.retrieve_error(failed.key.flow_name, failed.name, failed.id)
    console.print(Text(text.printable(error.failure.format(), keep=text.LINES)), soft_wrap=True)
    heading("The result of the flow")
    summarized, summary = outcome.summary()
    for line in _summary_lines(summary):
        console.print(Text(text.printable(line)), soft_wrap=True)
    seconds = outcome.seconds
    console.print(f"{len(outcome.tasks)} tasks in {seconds:.1f} s, {len(outcome.tasks) / seconds:.0f} per second.")
    heading("Next steps")
    command = f"{_program()} -c {shlex.quote(str(configuration))}"
    for arguments in (
        ["ls", outcome.run.flow_name],
        ["tree", outcome.run.id],
        ["errors", "--run", outcome.run.id],
        ["errors", "--full", "--task", failed.name, "--limit", "1"],
        ["show", retried.key.flow_name, retried.name, retried.id],
        ["cat", summarized.key.flow_name, summarized.name, summarized.id],
    ):
        console.print(Text(f"  {command} {shlex.join(arguments)}"), soft_wrap=True)
    console.print(Text(f"Remove everything: rm -r {shlex.quote(str(configuration.parent))}"), soft_wrap=True)


def _program() -> str:
    """Return the command to type: the script's name or its path.

    The path is needed if PATH has another script, or none.
    """
    script = Path(sys.executable).with_name("flowstore")
    on_path = shutil.which("flowstore")
    if on_path is not None and (not script.exists() or Path(on_path).resolve() == script.resolve()):
        return "flowstore"
    return shlex.quote(str(script))


def _summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    share = summary["documented"] / summary["public"]
    yield (
        f"{summary['modules']} modules: {summary['lines']:,} lines, {summary['functions']:,} functions, "
        f"{summary['classes']:,} classes"
    )
    yield f"docstrings: {share:.0%} of {summary['public']:,} public definitions have one"
    if summary["least_documented"]:
        least = (f"{module} ({documented} of {public})" for module, documented, public in summary["least_documented"])
        yield f"least documented: {', '.join(least)}"
    imported = (f"{name} ({count})" for name, count in summary["most_imported"])
    yield f"most imported: {', '.join(imported)}"
