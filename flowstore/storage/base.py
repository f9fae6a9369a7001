"""The minimal base class of adapters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, ClassVar

from flowstore.errors import UnsupportedError
from flowstore.storage.capabilities import Guarantees

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class DataStorage(ABC):
    """The minimal base class of adapters: stores and returns values.

    The keyword arguments of the constructor are the ``configuration`` of the YAML entry. The constructor does no I/O
    and need not call ``super().__init__()``. There is one instance per process.
    """

    thread_safe: ClassVar[bool] = False
    """Whether methods may run in several threads at once. If not, flowstore serializes the calls."""

    not_found_errors: ClassVar[tuple[type[Exception], ...]] = (KeyError,)
    """Exceptions of ``retrieve`` for a missing result, besides ``NotFoundError``; callers get a ``NotFoundError``."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Top-level names of the modules that the adapter requires; configuration checks look for them."""

    extra: ClassVar[str | None] = None
    """The extra of flowstore that installs them."""

    guarantees: ClassVar[tuple[Guarantees, ...]] = ()
    """What each supported database guarantees; shown in flowstore's documentation."""

    @classmethod
    def drivers_for(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield modules that these arguments require besides ``requires``.

        Optional. Called when a configuration is checked, for valid arguments. Does no I/O.

        Returns:
            The top-level name of each module, and the extra of flowstore that installs it.
        """
        yield from ()

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        """Yield mistakes in arguments of the constructor whose types are right.

        Optional. Called when a configuration is checked: what the constructor raises is reported later, and without its
        location in the file. Does no I/O.

        Returns:
            The path of each mistake within the arguments, and its description.
        """
        yield from ()

    def describe(self) -> str:
        """Return a short description of the database, without secrets.

        For example ``PostgreSQL at db:5432``. Optional. Logged at the first connect.
        """
        return type(self).__name__

    def preload(self) -> None:  # noqa: B027 - optional: many adapters have nothing to import
        """Import the modules that ``connect`` needs, without I/O. Optional.

        Called in the parent process of a worker before the first fork: its children share the modules, and need not
        import them during their first task.
        """

    @abstractmethod
    def connect(self) -> None:
        """Connect to the database.

        Called before the first use, and again whenever ``is_connected`` returns False.
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Disconnect from the database.

        Called when the process ends; may be called without a connection.
        """

    @abstractmethod
    def is_connected(self) -> bool:
        """Return whether the storage is connected.

        Called before each use, so it must not do I/O.
        """

    @abstractmethod
    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        """Return the result stored under this key.

        Raises:
            NotFoundError: nothing is stored (or one of ``not_found_errors``).
        """

    @abstractmethod
    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> Any:
        """Store a result, replacing an older one; return an id for it, or None."""

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: ExcInfo) -> Any:
        """Store the error of a task.

        Optional: an adapter that does not override this stores no errors.

        Args:
            node_args: the arguments of the failed task, as ``{"args": [...], "kwargs": {...}}``.
            exc_info: type, exception and traceback, as ``sys.exc_info()`` gives them.
        """
        raise UnsupportedError(f"{type(self).__name__} stores no errors: it does not define store_error()")


def keeps_errors(storage: DataStorage) -> bool:
    """Return whether the adapter stores errors."""
    return type(storage).store_error is not DataStorage.store_error
