"""``flowstore conformance``: run the conformance kit for an adapter."""

from __future__ import annotations

import importlib.util
from typing import Final

import click

from flowstore.cli.status import EXIT_ERROR, EXIT_INTERRUPTED

_STOPPED: Final = 2
_NOTHING_SELECTED: Final = 5


def _reasons(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    reasons = {}
    for text in given:
        aspect, equals, reason = text.partition("=")
        if not equals or not reason.strip():
            raise click.BadParameter(f"{text!r} is not of the form ASPECT=REASON", ctx, parameter)
        reasons[aspect] = reason
    return reasons


@click.command()
@click.argument("adapter", metavar="MODULE:CLASS")
@click.option(
    "--config",
    "file",
    metavar="PATH",
    help="Configuration with a storage of this class. In each test {TEST_FOLDER} is an empty folder and {TEST_NAME} a "
    "new name. Default: the class is constructed without arguments.",
)
@click.option("--storage", metavar="NAME", help="The storage to test, if several are of this class.")
@click.option(
    "--lacks",
    metavar="ASPECT=REASON",
    multiple=True,
    callback=_reasons,
    help="Skip an aspect that the adapter does not offer, such as faults or raw access. May be repeated.",
)
@click.option("--purge", is_flag=True, help="Empty the storage before each test. DELETES ALL ITS RECORDS.")
@click.option("--repeat", metavar="N", type=click.IntRange(min=1), default=1, help="Run each concurrency test N times.")
@click.option("-k", "select", metavar="EXPRESSION", help="Run only the tests that match, as with pytest -k.")
def conformance(
    adapter: str,
    file: str | None,
    storage: str | None,
    lacks: dict[str, str],
    purge: bool,
    repeat: int,
    select: str | None,
) -> None:
    """Test an adapter with the conformance kit.

    The tests run in a new pytest process. Exit status: 0 no test failed, 1 a test failed, 2 wrong usage or no test
    selected, 3 the adapter or its configuration is wrong.
    """
    if importlib.util.find_spec("pytest") is None:
        raise click.ClickException("the conformance kit needs pytest: pip install pytest")
    from flowstore.storage import RecordStorage
    from flowstore.testing import conformance as kit
    from flowstore.testing.rules import OPTIONAL

    unknown = lacks.keys() - OPTIONAL
    if unknown:
        raise click.UsageError(
            f"--lacks {unknown.pop()!r}: not an optional aspect; optional are {', '.join(sorted(OPTIONAL))}"
        )
    job = kit.Job(adapter, file, storage, lacks, purge)
    adapter_class = job.adapter_class()
    job.check()
    if purge and not issubclass(adapter_class, RecordStorage):
        raise click.UsageError(
            "--purge needs a RecordStorage; use {TEST_FOLDER} or {TEST_NAME} in the configuration instead"
        )
    if not job.has_empty_places():
        raise click.UsageError(
            "all tests would share one place: use {TEST_FOLDER} or {TEST_NAME} in the configuration, or pass "
            "--purge, which deletes all records, or --lacks 'instances=REASON' if instances share nothing"
        )
    status = kit.run(job, repeat=repeat, select=select)
    if status == _NOTHING_SELECTED:
        raise click.UsageError(f"-k {select!r} matches no test")
    if status:
        raise click.exceptions.Exit(EXIT_INTERRUPTED if status == _STOPPED else EXIT_ERROR)
