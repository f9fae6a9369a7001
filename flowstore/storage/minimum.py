"""The minimum of an adapter: values in, values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, ClassVar

from flowstore.errors import UnsupportedError
from flowstore.storage.capabilities import Guarantees

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class DataStorage(ABC):
    """The minimum of an adapter: values in, values out.

    The keyword arguments of the constructor are the ``configuration`` of the YAML entry. The constructor does no I/O
    and need not call ``super().__init__()``. One instance serves a whole process.
    """

    thread_safe: ClassVar[bool] = False
    """Whether methods may run in several threads at once. If not, flowstore lets one at a time in."""

    not_found_errors: ClassVar[tuple[type[Exception], ...]] = (KeyError,)
    """What ``retrieve`` raises for a missing result, besides ``NotFoundError``; callers get a ``NotFoundError``."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Top-level names of the modules that the adapter needs installed, looked for when a configuration is checked."""

    extra: ClassVar[str | None] = None
    """The extra of the flowstore package that installs them."""

    guarantees: ClassVar[tuple[Guarantees, ...]] = ()
    """What each database promises that the adapter can be configured for; flowstore's documentation shows it."""

    @classmethod
    def drivers_for(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield what these arguments of the constructor need besides ``requires``; does no I/O. Optional.

        Called when a configuration is checked, for arguments without mistakes.

        Returns:
            The top-level name of each module, and the extra of the flowstore package that installs it.
        """
        yield from ()

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        """Yield what is wrong with arguments of the constructor whose types are right; does no I/O.

        Called when a configuration is checked. Optional: what the constructor itself raises comes later, and without
        its place in the file.

        Returns:
            The path of each mistake within the arguments, and what it is.
        """
        yield from ()

    def describe(self) -> str:
        """Return what database this is and where, in a few words without secrets: ``PostgreSQL at db:5432``. Optional.

        Written into the log at the first connect.
        """
        return type(self).__name__

    def preload(self) -> None:  # noqa: B027 - optional: many adapters have nothing to import
        """Import what ``connect`` needs, without any I/O. Optional.

        Called in the parent process of a worker, before the first fork: its children then share the modules, and none
        has to import them in the middle of its first task.
        """

    @abstractmethod
    def connect(self) -> None:
        """Connect to the database. Called before the first use, and again when ``is_connected`` says no."""

    @abstractmethod
    def disconnect(self) -> None:
        """Let go of the connection. Called when the process ends; may be called without a connection."""

    @abstractmethod
    def is_connected(self) -> bool:
        """Tell whether ``connect`` has been called successfully. Called before each use: no I/O here."""

    @abstractmethod
    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        """Return the result stored under these three names.

        Raises:
            NotFoundError: there is none (or one of ``not_found_errors``).
        """

    @abstractmethod
    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> Any:
        """Store a result under these three names, replacing an older one; return an id for it, or ``None``."""

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: ExcInfo) -> Any:
        """Store how a task failed. Optional: an adapter that does not override it keeps no errors.

        Args:
            node_args: the arguments of the failed task, as ``{"args": [...], "kwargs": {...}}``.
            exc_info: type, exception and traceback, as ``sys.exc_info()`` gives them.
        """
        raise UnsupportedError(f"{type(self).__name__} stores no errors: it does not define store_error()")


def keeps_errors(storage: DataStorage) -> bool:
    """Tell whether an adapter defines ``store_error``."""
    return type(storage).store_error is not DataStorage.store_error
