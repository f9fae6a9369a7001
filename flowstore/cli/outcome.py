"""How commands end: errors as one line, and as an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from flowstore.cli.text import LINES, one_line, printable

ERROR: Final = 1
USAGE: Final = 2
CONFIGURATION: Final = 3
NOT_FOUND: Final = 4
UNREACHABLE: Final = 5
PARTLY_FAILED: Final = 6
INTERRUPTED: Final = 130


@contextmanager
def outcomes(*, debug: bool) -> Iterator[None]:
    """Turn what a command raises into a message on stderr and an exit status."""
    from flowstore.record.damage import damage_to

    damaged: list[BaseException] = []

    def passed_over(exc: BaseException) -> None:
        damaged.append(exc)
        say(f"passed over a damaged record: {describe(exc)}")

    try:
        with damage_to(passed_over):
            yield
        sys.stdout.flush()
        if damaged:
            raise partly_failed()
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BrokenPipeError:
        # Whoever reads has seen enough. What is still buffered must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(0) from None
    except KeyboardInterrupt:
        say("interrupted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Exception as exc:
        if debug:
            click.echo(printable(traceback.format_exc(), keep=LINES), err=True, nl=False)
        fail(exc)
        raise click.exceptions.Exit(status_of(exc)) from None


def status_of(exc: BaseException) -> int:
    """Return the exit status that an error means."""
    from flowstore import errors

    statuses: tuple[tuple[type[BaseException], int], ...] = (
        (errors.ConfigurationError, CONFIGURATION),
        (errors.InvalidKeyError, USAGE),
        (errors.NotFoundError, NOT_FOUND),
        (errors.UnreachableError, UNREACHABLE),
    )
    return next((status for kind, status in statuses if isinstance(exc, kind)), ERROR)


def describe(exc: BaseException) -> str:
    """Return an error's message, in one line unless it lists the mistakes of a configuration."""
    from flowstore.errors import ConfigurationError, FlowstoreError, StorageError

    if isinstance(exc, ConfigurationError) and exc.mistakes:
        return printable(str(exc), keep=LINES)
    text = one_line(str(exc))
    if not isinstance(exc, FlowstoreError | OSError):
        return f"{type(exc).__name__}: {text} (--debug shows where)" if text else type(exc).__name__
    if isinstance(exc, StorageError) and exc.storage is not None and repr(exc.storage) not in text:
        return f"storage {exc.storage!r}: {text}"
    return text or type(exc).__name__


def say(message: str) -> None:
    """Tell something on stderr, where it doesn't mix with data."""
    click.echo(message, err=True)


def fail(exc: BaseException) -> None:
    """Tell on stderr what went wrong."""
    say(f"error: {describe(exc)}")


def partly_failed() -> click.exceptions.Exit:
    """Return what to raise where some of the work could not be done and the rest is."""
    return click.exceptions.Exit(PARTLY_FAILED)
