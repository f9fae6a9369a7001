"""``flowstore conformance``: what an adapter proves, without writing a test."""

from __future__ import annotations

import importlib.util
from typing import Final

import click

from flowstore.cli.outcome import ERROR, INTERRUPTED

_STOPPED: Final = 2
_NOTHING_SELECTED: Final = 5


def _reasons(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        aspect, equals, reason = text.partition("=")
        if not equals or not reason.strip():
            raise click.BadParameter(f"{text!r} is not of the form ASPECT=REASON", ctx, parameter)
        found[aspect] = reason
    return found


@click.command()
@click.argument("adapter", metavar="MODULE:CLASS")
@click.option(
    "--config",
    "file",
    metavar="PATH",
    help="A configuration with a storage of this class, in which {TEST_FOLDER} is an empty folder and {TEST_NAME} a "
    "new name for each test. Without: the class takes no arguments.",
)
@click.option("--storage", metavar="NAME", help="Which storage, where the configuration has several of this class.")
@click.option(
    "--lacks",
    metavar="ASPECT=REASON",
    multiple=True,
    callback=_reasons,
    help="Leave out what the adapter does not offer, such as faults or raw access. May be repeated.",
)
@click.option("--purge", is_flag=True, help="Empty the place before each test. DELETES WHAT IS STORED THERE.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, help="Run each concurrency test so many times.")
@click.option("-k", "select", metavar="EXPRESSION", help="Only the tests that pytest's -k selects.")
def conformance(
    adapter: str,
    file: str | None,
    storage: str | None,
    lacks: dict[str, str],
    purge: bool,
    repeat: int,
    select: str | None,
) -> None:
    """Test an adapter by the conformance kit, in a pytest of its own.

    Exit status: 0 nothing failed, 1 something did, 2 nothing was selected or an option is wrong, 3 the adapter or its
    configuration is wrong.
    """
    if importlib.util.find_spec("pytest") is None:
        raise click.ClickException("the kit runs in pytest, which is not installed: pip install pytest")
    from flowstore.storage import RecordStorage
    from flowstore.testing import conformance as kit
    from flowstore.testing.rules import OPTIONAL

    unknown = lacks.keys() - OPTIONAL
    if unknown:
        raise click.UsageError(f"--lacks {unknown.pop()!r}: what may be left out is {', '.join(sorted(OPTIONAL))}")
    job = kit.Job(adapter, file, storage, lacks, purge)
    adapter_class = job.adapter_class()
    job.check()
    if purge and not issubclass(adapter_class, RecordStorage):
        raise click.UsageError("--purge: only a RecordStorage can empty its place; use {TEST_FOLDER} or {TEST_NAME}")
    if not job.has_empty_places():
        raise click.UsageError(
            "all tests would share one place: write {TEST_FOLDER} or {TEST_NAME} into the configuration, or give "
            "--purge, which deletes what is stored there, or --lacks 'instances=the reason' if nothing is shared"
        )
    status = kit.run(job, repeat=repeat, select=select)
    if status == _NOTHING_SELECTED:
        raise click.UsageError(f"-k {select!r} selects no test")
    if status:
        raise click.exceptions.Exit(INTERRUPTED if status == _STOPPED else ERROR)
