"""The command group, its options, and the store that its commands work on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from flowstore.cli.outcome import outcomes

if TYPE_CHECKING:
    from flowstore.store import FlowStore

_META = "flowstore.cli"
_DEFAULT_FILE = "flowstore.yaml"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from.

    Attributes:
        path: the file that was asked for, if any.
        overrides: what ``--set`` said, by dotted name.
        app: the Celery app, where the group is part of Celery's own command.
    """

    path: str | None = None
    overrides: dict[str, str] = field(default_factory=dict)
    app: Any = None

    def open(self, *, keep_lacking: bool = False) -> FlowStore:
        """Return the store to work on; nothing is connected yet.

        Args:
            keep_lacking: whether a storage whose driver is not installed is an error only when it is used.

        Raises:
            ConfigurationError: there is no configuration, or it is wrong.
        """
        from flowstore.config.loading import load
        from flowstore.store import FlowStore

        attached = FlowStore.attached_to(self.app)
        if self.path is None and attached is not None:
            if self.overrides:
                raise click.UsageError("--set needs --config: the app's own configuration is loaded already")
            return attached
        store = FlowStore(load(self._file(), overrides=self.overrides, keep_lacking=keep_lacking))
        click.get_current_context().call_on_close(store.close)
        return store

    def _file(self) -> str | None:
        """Return the path of the configuration, or ``None`` for that of ``FLOWSTORE_CONFIG``."""
        if self.path is not None or os.environ.get("FLOWSTORE_CONFIG"):
            return self.path
        if os.path.exists(_DEFAULT_FILE):
            return _DEFAULT_FILE
        from flowstore.errors import ConfigurationError

        raise ConfigurationError(
            f"no configuration: give --config PATH, set FLOWSTORE_CONFIG, or let 'flowstore init' write {_DEFAULT_FILE}"
        )


def source() -> Source:
    """Return where the running command finds its configuration."""
    found: Source = click.get_current_context().meta[_META]
    return found


class _Group(click.Group):
    """A group whose commands end with the exit status of what went wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        from flowstore.store.patience import limited

        # Whoever waits at a terminal wants to know at once, and can do it again.
        with outcomes(debug=ctx.params["debug"]), limited(0.0):
            return super().invoke(ctx)


def _overrides(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", ctx, parameter)
        found[name] = value
    return found


@click.group(name="flowstore", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="PATH", help="The configuration; default: $FLOWSTORE_CONFIG, ./flowstore.yaml.")
@click.option(
    "--set",
    "overrides",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_overrides,
    help="Override a value of the configuration: storages.Hot.host=db1. May be repeated.",
)
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.version_option(package_name="flowstore", prog_name="flowstore")
@click.pass_context
def flowstore(ctx: click.Context, config: str | None, overrides: dict[str, str], debug: bool) -> None:
    """Look at what Celery flows have stored: results, errors, and what ran.

    Exit status: 0 fine, 1 error, 2 usage, 3 configuration, 4 not found, 5 storage unreachable, 6 partly failed,
    130 interrupted.
    """
    # Adapters of people's own are found where Celery finds their tasks: in the folder that is current.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    # Not in ctx.obj: inside of Celery's command that is Celery's, and carries the app.
    ctx.meta[_META] = Source(config, overrides, getattr(ctx.obj, "app", None))
