"""How commands end: exit statuses, and messages on stderr."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import click

from flowstore.cli.text import LINES, one_line, printable

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFIGURATION: Final = 3
EXIT_NOT_FOUND: Final = 4
EXIT_UNREACHABLE: Final = 5
EXIT_PARTLY_FAILED: Final = 6
EXIT_INTERRUPTED: Final = 130


@contextmanager
def outcomes(*, debug: bool) -> Iterator[None]:
    """Turn exceptions into a message on stderr and an exit status."""
    from flowstore.record.damage import on_damage

    damaged: list[BaseException] = []

    def skip(exc: BaseException) -> None:
        damaged.append(exc)
        say(f"skipped a damaged record: {describe(exc)}")

    try:
        with on_damage(skip):
            yield
        sys.stdout.flush()
        if damaged:
            raise partly_failed()
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BrokenPipeError:
        # The reader has closed the pipe. Buffered output must not be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(0) from None
    except KeyboardInterrupt:
        say("interrupted")
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    except Exception as exc:
        if debug:
            click.echo(printable(traceback.format_exc(), keep=LINES), err=True, nl=False)
        fail(exc)
        raise click.exceptions.Exit(status_of(exc)) from None


def status_of(exc: BaseException) -> int:
    """Return the exit status for an error."""
    from flowstore import errors

    statuses: tuple[tuple[type[BaseException], int], ...] = (
        (errors.ConfigurationError, EXIT_CONFIGURATION),
        (errors.InvalidKeyError, EXIT_USAGE),
        (errors.NotFoundError, EXIT_NOT_FOUND),
        (errors.UnreachableError, EXIT_UNREACHABLE),
    )
    return next((status for kind, status in statuses if isinstance(exc, kind)), EXIT_ERROR)


def describe(exc: BaseException) -> str:
    """Return an error's message as one line.

    The mistakes of a configuration are listed in several lines.
    """
    from flowstore.errors import ConfigurationError, FlowstoreError, StorageError

    if isinstance(exc, ConfigurationError) and exc.mistakes:
        return printable(str(exc), keep=LINES)
    message = one_line(str(exc))
    if not isinstance(exc, FlowstoreError | OSError):
        return f"{type(exc).__name__}: {message} (--debug shows the traceback)" if message else type(exc).__name__
    if isinstance(exc, StorageError) and exc.storage is not None and repr(exc.storage) not in message:
        return f"storage {exc.storage!r}: {message}"
    return message or type(exc).__name__


def say(message: str) -> None:
    """Print a message on stderr, apart from data on stdout."""
    click.echo(message, err=True)


def fail(exc: BaseException) -> None:
    """Print an error on stderr."""
    say(f"error: {describe(exc)}")


def partly_failed() -> click.exceptions.Exit:
    """Return the exception to raise if only part of the work was done."""
    return click.exceptions.Exit(EXIT_PARTLY_FAILED)


def end_with_failures(failures: Mapping[str, Exception], storages: int) -> None:
    """End the command if storages failed; print their errors.

    Args:
        failures: the errors, by the names of the storages.
        storages: how many storages were used.

    Raises:
        Exception: the last error, if all of them failed.
        Exit: some of them failed.
    """
    if not failures:
        return
    *others, last = failures.values()
    if len(failures) == storages:
        for exc in others:
            fail(exc)
        raise last
    for exc in failures.values():
        fail(exc)
    raise partly_failed()
