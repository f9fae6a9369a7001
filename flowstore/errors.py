"""The errors that flowstore raises.

::

    FlowstoreError
    ├── ConfigurationError          the configuration is invalid; lists every mistake
    │   └── UnknownStorageError     a storage name that the configuration does not declare
    ├── InvalidKeyError             a flow name, task name or task id that can't be a key
    ├── SerializationError          a value that can't be stored
    ├── ResultSchemaError           a result that does not match its ``output_schema``
    ├── ResultTooLargeError         a result that exceeds ``max_result_size``
    ├── OutsideTaskError            no attached task is running
    ├── NotSentError                the flow was not started: no message was sent
    ├── RemoteTaskError             the stored error of a task (``flowstore.record.failure``)
    └── StorageError                a storage operation failed
        ├── NotFoundError           nothing is stored under the key
        │   └── ExpiredError        what was stored there has expired
        ├── ConflictError           the stored record is not the expected one
        ├── CorruptError            a stored record can't be read
        ├── UnreachableError        the database is unreachable or temporarily unusable
        │   └── OutcomeUnknownError the connection broke during a write
        ├── ReadonlyError           the task has ``storage_readonly``
        └── UnsupportedError        the adapter does not support the operation

All errors can be pickled, because Celery sends the errors of tasks between its processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FlowstoreError(Exception):
    """Base class of all errors that flowstore raises on purpose."""


class ConfigurationError(FlowstoreError):
    """The configuration is invalid.

    ``mistakes`` contains every mistake found, each printable with its location; it is empty if the message says it all.
    """

    def __init__(self, message: str, mistakes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.mistakes = tuple(mistakes)


class UnknownStorageError(ConfigurationError):
    """The configuration does not declare a storage of this name."""


class InvalidKeyError(FlowstoreError, ValueError):
    """A flow name, task name or task id can't be part of a key."""


class SerializationError(FlowstoreError, TypeError):
    """A value can't be stored.

    ``path`` is the path of the offending part in the value (``$.rows[3].when``), ``type_name`` its type.
    """

    def __init__(self, message: str, path: str = "$", type_name: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.type_name = type_name


class ResultSchemaError(FlowstoreError, ValueError):
    """A result does not match its task's ``output_schema``.

    ``path`` is the path of the offending part.
    """

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class ResultTooLargeError(FlowstoreError, ValueError):
    """A result exceeds its storage's ``max_result_size``.

    Nothing was written.
    """


class OutsideTaskError(FlowstoreError, RuntimeError):
    """There is no current task: no attached task is running here."""


class NotSentError(FlowstoreError, RuntimeError):
    """A flow was not started: ``apply_async`` of its canvas sent no message.

    Nothing is stored. Some task classes return the result of an earlier message, or send the message later.
    """


class StorageError(FlowstoreError):
    """A storage operation failed.

    ``storage`` is the storage's configured name, set when the error passes the registry; ``None`` before.
    """

    storage: str | None = None


class NotFoundError(StorageError, KeyError):
    """Nothing is stored under the key."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would put quotes around the message


class ExpiredError(NotFoundError):
    """What was stored under the key has expired."""


class ConflictError(StorageError):
    """The stored record is not the one that the caller expected.

    ``current`` is the stored record, or ``None`` if nothing is stored.
    """

    def __init__(self, message: str, current: Any = None) -> None:
        super().__init__(message)
        self.current = current


class CorruptError(StorageError):
    """A stored record can't be read.

    It is damaged, foreign, or written by a newer major version. ``ref`` is its reference, if known.
    """

    ref: Any = None


class UnreachableError(StorageError):
    """The database is unreachable or temporarily unusable; a retry may help."""


class OutcomeUnknownError(UnreachableError):
    """The connection broke during a write that may have succeeded.

    Retry the same write to find out: a record's token identifies the write of an earlier attempt.
    """


class ReadonlyError(StorageError):
    """A write or delete was refused: the task has ``storage_readonly``."""


class UnsupportedError(StorageError):
    """The adapter does not support the operation.

    The message names the capability.
    """
