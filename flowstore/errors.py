"""The errors that flowstore raises.

::

    FlowstoreError
    ├── ConfigurationError          the configuration is wrong; lists every mistake
    │   └── UnknownStorageError     a storage name that the configuration does not declare
    ├── InvalidKeyError             a flow name, task name or task id that can't be a key
    ├── SerializationError          a value that can't be stored as it is
    ├── ResultSchemaError           a result that its task's ``output_schema`` refuses
    ├── ResultTooLargeError         a result that is larger than its storage's ``max_result_size``
    ├── OutsideTaskError            asked for the current task outside of one
    ├── NotSentError                a flow that was not started, because nothing was sent
    ├── RemoteTaskError             the stored error of a task (``flowstore.record.failure``)
    └── StorageError                a storage could not answer
        ├── NotFoundError           nothing is stored under that key
        │   └── ExpiredError        what was stored there has expired
        ├── ConflictError           the stored record is not the one expected
        ├── CorruptError            what is stored can't be read
        ├── UnreachableError        the database can't be reached or is not usable now
        │   └── OutcomeUnknownError the connection broke while something was being written
        ├── ReadonlyError           the task has ``storage_readonly``
        └── UnsupportedError        this adapter can't do that

Every error can be pickled, because Celery sends the errors of tasks between its processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FlowstoreError(Exception):
    """Anything that flowstore raises on purpose."""


class ConfigurationError(FlowstoreError):
    """A configuration that can't be used.

    ``mistakes`` holds every mistake found, each printable with its place; it is empty where the message says it all.
    """

    def __init__(self, message: str, mistakes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.mistakes = tuple(mistakes)


class UnknownStorageError(ConfigurationError):
    """A storage name that the configuration does not declare."""


class InvalidKeyError(FlowstoreError, ValueError):
    """A flow name, task name or task id that can't be part of a key."""


class SerializationError(FlowstoreError, TypeError):
    """A value that can't be stored as it is.

    ``path`` leads to the offending part inside the value (``$.rows[3].when``), ``type_name`` is its type.
    """

    def __init__(self, message: str, path: str = "$", type_name: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.type_name = type_name


class ResultSchemaError(FlowstoreError, ValueError):
    """A result that its task's ``output_schema`` refuses; ``path`` leads to the offending part."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class ResultTooLargeError(FlowstoreError, ValueError):
    """A result that is larger than its storage's ``max_result_size``; nothing was written."""


class OutsideTaskError(FlowstoreError, RuntimeError):
    """The current task was asked for where no attached task is running."""


class NotSentError(FlowstoreError, RuntimeError):
    """A flow that was not started: its canvas's ``apply_async`` sent no message. Nothing is stored of it.

    Task classes do so that answer with the result of a message sent before, or that send theirs later.
    """


class StorageError(FlowstoreError):
    """A storage that could not answer.

    ``storage`` is the storage's configured name once the error has passed the registry, else ``None``.
    """

    storage: str | None = None


class NotFoundError(StorageError, KeyError):
    """Nothing is stored under that key."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # not KeyError's, which puts quotes around the message


class ExpiredError(NotFoundError):
    """What was stored under that key has expired."""


class ConflictError(StorageError):
    """The stored record is not the one that the caller expected.

    ``current`` is the record that is stored now, or ``None`` where there is none.
    """

    def __init__(self, message: str, current: Any = None) -> None:
        super().__init__(message)
        self.current = current


class CorruptError(StorageError):
    """What is stored can't be read: damaged, foreign, or written by a newer major version.

    ``ref`` is the reference of the record, where it is known.
    """

    ref: Any = None


class UnreachableError(StorageError):
    """The database can't be reached, or can't be used right now; trying again may help."""


class OutcomeUnknownError(UnreachableError):
    """The connection broke while something was being written or deleted: it may have been done, or not.

    Trying the same write again finds out: a record carries a token by which an earlier try's write is recognized.
    """


class ReadonlyError(StorageError):
    """Something of a task would be written or deleted, and the configuration says ``storage_readonly`` of it."""


class UnsupportedError(StorageError):
    """This adapter can't do that; the message names the capability."""
