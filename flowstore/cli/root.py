"""The command group, its options, and the store its commands use."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from flowstore.cli.status import outcomes

if TYPE_CHECKING:
    from flowstore.store import FlowStore

_META = "flowstore.cli"
_DEFAULT_FILE = "flowstore.yaml"


@dataclass(frozen=True, slots=True)
class StoreSource:
    """Where the configuration comes from.

    Attributes:
        path: the value of ``--config``.
        overrides: the values of ``--set``, by dotted name.
        app: the Celery app, if the command runs as ``celery flowstore``.
    """

    path: str | None = None
    overrides: dict[str, str] = field(default_factory=dict)
    app: Any = None

    def open(self, *, allow_missing_drivers: bool = False) -> FlowStore:
        """Return the store; nothing is connected yet.

        Args:
            allow_missing_drivers: whether a storage with a missing driver raises only when it is used.

        Raises:
            ConfigurationError: no configuration was found, or it is invalid.
        """
        from flowstore.config.loading import load
        from flowstore.store import FlowStore

        attached = FlowStore.attached_to(self.app)
        if self.path is None and attached is not None:
            if self.overrides:
                raise click.UsageError("--set needs --config: the app has loaded its configuration already")
            return attached
        store = FlowStore(load(self._file(), overrides=self.overrides, allow_missing_drivers=allow_missing_drivers))
        click.get_current_context().call_on_close(store.close)
        return store

    def _file(self) -> str | None:
        """Return the configuration's path; ``None`` for ``FLOWSTORE_CONFIG``."""
        if self.path is not None or os.environ.get("FLOWSTORE_CONFIG"):
            return self.path
        if os.path.exists(_DEFAULT_FILE):
            return _DEFAULT_FILE
        from flowstore.errors import ConfigurationError

        raise ConfigurationError(
            "no configuration: pass --config PATH, set FLOWSTORE_CONFIG, or write "
            f"{_DEFAULT_FILE} with 'flowstore init'"
        )


def source() -> StoreSource:
    """Return the configuration source of the running command."""
    current: StoreSource = click.get_current_context().meta[_META]
    return current


class _Group(click.Group):
    """A group whose commands end with an exit status for each kind of error."""

    def invoke(self, ctx: click.Context) -> Any:
        from flowstore.store.patience import limited

        # No retries: a user at a terminal would rather see the error at once.
        with outcomes(debug=ctx.params["debug"]), limited(0.0):
            return super().invoke(ctx)


def _overrides(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    overrides = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", ctx, parameter)
        overrides[name] = value
    return overrides


@click.group(name="flowstore", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c", "--config", metavar="PATH", help="Configuration file. Default: $FLOWSTORE_CONFIG, else ./flowstore.yaml."
)
@click.option(
    "--set",
    "overrides",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_overrides,
    help="Override a configuration value: storages.Hot.host=db1. May be repeated.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="flowstore", prog_name="flowstore")
@click.pass_context
def flowstore(ctx: click.Context, config: str | None, overrides: dict[str, str], debug: bool) -> None:
    """Inspect and manage what Celery flows have stored.

    Exit status: 0 success, 1 error, 2 wrong usage, 3 configuration error, 4 not found, 5 storage unreachable, 6 partly
    failed, 130 interrupted.
    """
    # As Celery does for tasks: users' adapters are importable from the current folder.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    # Not in ctx.obj, which belongs to Celery's command and carries the app.
    ctx.meta[_META] = StoreSource(config, overrides, getattr(ctx.obj, "app", None))
