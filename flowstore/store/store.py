"""``FlowStore``: the interface for applications, made of its chapters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from flowstore.config import Configuration, loading
from flowstore.errors import ConfigurationError
from flowstore.storage import DataStorage
from flowstore.store.batches import BatchesMixin
from flowstore.store.blobs import BlobsMixin
from flowstore.store.claims import ClaimsMixin
from flowstore.store.flow_run import FlowRun
from flowstore.store.history import HistoryMixin
from flowstore.store.results import ResultsMixin
from flowstore.store.runs import RunsMixin
from flowstore.store.state import StateMixin
from flowstore.store.upkeep import UpkeepMixin

if TYPE_CHECKING:
    from celery import Celery
    from celery.canvas import Signature

APP_ATTRIBUTE: Final = "flowstore"
"""The attribute of a Celery app that holds the FlowStore attached to it."""


class FlowStore(ResultsMixin, BatchesMixin, ClaimsMixin, BlobsMixin, StateMixin, HistoryMixin, RunsMixin, UpkeepMixin):
    """Store and retrieve the results of task flows, in configured storages.

    A storage is connected when it is first used. One instance serves all threads of a process, and its forked children.
    As a context manager, it calls ``close`` at the end of the block.

    Args:
        source: the path of a YAML file, a mapping of the same form, a configuration that ``flowstore.config.loading``
            has read, or ``None`` for the file that the environment variable ``FLOWSTORE_CONFIG`` names.
        app: a Celery app to attach to.
        overrides: values that win over the file and the environment, by dotted name (``storages.Hot.host``).

    Raises:
        ConfigurationError: the configuration is wrong. Lists every mistake. Nothing has been connected.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any] | Configuration | None = None,
        *,
        app: Celery | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(source if isinstance(source, Configuration) else loading.load(source, overrides=overrides))
        self._app: Celery | None = None
        if app is not None:
            self.attach(app)

    def __repr__(self) -> str:
        return f"<FlowStore {self._configuration.source}: {', '.join(self._configuration.storages)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Celery

    def attach(self, app: Celery) -> None:
        """Store the results and errors of an app's tasks.

        Tasks without a storage are left alone.

        Call it in the module that makes the app, so that workers and clients do the same. A second call with the same
        app changes nothing.

        Raises:
            ConfigurationError: another FlowStore is attached to the app.
        """
        from flowstore.celery import attach

        attach(self, app)
        self._app = app

    def detach(self, app: Celery | None = None) -> None:
        """Undo ``attach``: restore the app's tasks, backends and messages.

        For tests. Don't call it while a task of the app is running. Storages stay connected: see ``close``.

        Args:
            app: the app; ``None`` for the one that was attached last.

        Raises:
            ConfigurationError: this FlowStore is not attached to the app.
        """
        from flowstore.celery import detach

        app = self._app if app is None else app
        if app is None or self.attached_to(app) is not self:
            raise ConfigurationError(f"{self!r} is not attached to {'any app' if app is None else app!r}")
        detach(app)
        if app is self._app:
            self._app = None

    def start(self, flow_name: str, canvas: Signature | Any, **options: Any) -> FlowRun:
        """Start a signature (of a task, chain, group or chord) as a flow.

        Args:
            flow_name: the name under which everything that runs is stored.
            canvas: the signature, or the mapping that JSON makes of one. A task is started without arguments.
            options: passed on to ``apply_async`` (``countdown``, ``queue``, …).

        Returns:
            The flow run. It is stored before anything is sent, with the names, ids and places of all its tasks. The run
            of an empty group is done at once, with ``[]`` as its result.

        Raises:
            ConfigurationError: no app is attached, or the flow has no storage.
            StorageError: the run can't be stored. Nothing was sent.
            ValueError: the canvas is an empty chain, which has no result. Nothing was stored.
            TypeError: the canvas is not a signature. Nothing was stored.
            NotSentError: ``apply_async`` sent nothing. No run is stored.
        """
        from flowstore.celery import start

        return start(self, self._app, flow_name, canvas, options)

    @staticmethod
    def attached_to(app: Celery) -> FlowStore | None:
        """Return the FlowStore that is attached to an app, or None."""
        found = getattr(app, APP_ATTRIBUTE, None)
        return found if isinstance(found, FlowStore) else None

    # Storages

    def storage(self, name: str) -> DataStorage:
        """Return a storage by its name: the adapter itself, connected.

        Raises:
            UnknownStorageError: the storage is not declared.
            StorageError: it can't be connected.
        """
        return self._registry.get(name)

    def task_storage(self, flow_name: str, task_name: str) -> DataStorage:
        """Return the storage of a task: the adapter itself, connected.

        Raises:
            UnknownStorageError: the task has no storage.
            StorageError: the storage can't be connected.
        """
        return self._registry.get(self._router.get_route(flow_name, task_name).storage.name)

    def close(self) -> None:
        """Disconnect all storages of this process.

        A storage that is used afterwards is connected again.
        """
        self._registry.close()

    def _preload(self) -> None:
        """Import what the storages in use need, without I/O.

        For a process that is going to fork.
        """
        for entry in self._router.used_storages():
            self._registry.preload(entry.name)
