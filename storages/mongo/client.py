"""A client of MongoDB for one process, and what its driver's errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import ASCENDING, MongoClient, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidOperation,
    InvalidURI,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.operations import IndexModel

from flowstore.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    StorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.storages.shared.clock import ServerClock, elapsed

Document = dict[str, Any]

GRACE: Final = 86_400
"""Seconds that a record stays after it has expired before the server deletes it by itself."""

_INDEXES: Final = {
    "flowstore_order": ("position",),
    "flowstore_run": ("run_id", "position"),
    "flowstore_kind": ("kind", "flow_name", "position"),
    "flowstore_task": ("task_id", "position"),
    "flowstore_expiry": ("expires_at",),
}
_RECLAIM: Final = "flowstore_reclaim"

_TOO_LARGE: Final = frozenset({10334, 17419, 17420})
_REFUSED: Final = {
    18: "does not know the user or the password",
    8000: "does not know the user or the password",
    13: "does not let the user do that",
}
_NOT_WRITABLE: Final = frozenset({10107, 13435})


@dataclass(frozen=True)
class Settings:
    """How to reach a collection."""

    hosts: str | list[str] = field(repr=False)
    port: int | None
    db_name: str
    collection_name: str
    w: int | str
    journal: bool
    options: Mapping[str, Any] = field(repr=False)


class Connection:
    """A client and its collection, used by one process. All methods may be called from several threads."""

    def __init__(self, settings: Settings) -> None:
        try:
            # Connects in the background. The driver sends nothing twice: a second try of a write can't be told from
            # somebody else's, and one of a read would wait for a silent server as long as the first.
            self._client: MongoClient[Document] = MongoClient(
                settings.hosts, settings.port, retryWrites=False, retryReads=False, **settings.options
            )
        except (InvalidURI, DriverConfigurationError, ValueError) as exc:
            # The address may hold a password, and so may the driver's message.
            raise ConfigurationError(f"MongoDB's address or options are not right ({type(exc).__name__})") from None
        self.where = f"{settings.db_name}.{settings.collection_name} at {_servers(self._client)}"
        concern = WriteConcern(settings.w, j=settings.journal or None)
        self.collection: Collection[Document] = self._client[settings.db_name].get_collection(
            settings.collection_name, write_concern=concern
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def prepare(self) -> ServerClock:
        """Look at the server, create the indexes that are missing, and return the server's clock.

        Raises:
            UnsupportedError: the server can't change a document in one atomic step.
        """
        version = self._client.admin.command("buildInfo").get("ferretdbVersion")
        if version is not None:
            raise UnsupportedError(
                f"{self.where} is FerretDB {version}, which lets several writers have one revision; MongoDB does not"
            )
        asked = elapsed()
        # The oldest form of "hello", which every compatible server knows.
        told: datetime | None = self._client.admin.command("isMaster").get("localTime")
        clock = ServerClock(told.replace(tzinfo=UTC).timestamp() if told else None, 0.001, asked)
        there = set(self.collection.index_information())
        missing = [
            IndexModel([(field, ASCENDING) for field in fields], name=name)
            for name, fields in _INDEXES.items()
            if name not in there
        ]
        if missing:
            self.collection.create_indexes(missing)
        if _RECLAIM not in there:
            self._reclaim()
        return clock

    def _reclaim(self) -> None:
        try:
            self.collection.create_index("reclaim_at", name=_RECLAIM, expireAfterSeconds=GRACE)
        except OperationFailure as exc:
            # Compatible servers don't all delete by time; flowstore's cleanup does.
            if exc.code in _REFUSED:
                raise


def _servers(client: MongoClient[Document]) -> str:
    return ",".join(sorted(f"{host}:{port}" for host, port in client.topology_description.server_descriptions()))


def translate(exc: Exception, where: str, mutates: bool) -> StorageError | None:
    """Return what an error of the driver means, or ``None`` for one that should not have come up."""
    lost = OutcomeUnknownError if mutates else UnreachableError
    name = type(exc).__name__
    if isinstance(exc, ServerSelectionTimeoutError | WaitQueueTimeoutError):
        return UnreachableError(f"can't reach {where} ({name})")
    if isinstance(exc, NotPrimaryError) and _code(exc) in _NOT_WRITABLE:
        return UnreachableError(f"{where} has no primary right now")
    if isinstance(exc, DocumentTooLarge):
        return UnsupportedError(f"{where} can't store a document of that size")
    is_unconfirmed = isinstance(exc, BulkWriteError) and bool(exc.details.get("writeConcernErrors"))
    if is_unconfirmed or isinstance(exc, ConnectionFailure | ExecutionTimeout | WTimeoutError | WriteConcernError):
        return lost(f"the connection to {where} broke, or the server did not answer in time ({name})")
    if isinstance(exc, OperationFailure):
        code = _code(exc)
        if code in _TOO_LARGE:
            return UnsupportedError(f"{where} can't store a document of that size")
        why = _REFUSED.get(code, "refuses the command")
        return StorageError(f"{where} {why} (code {code})")
    if isinstance(exc, InvalidOperation):
        return UnreachableError(f"{where} was disconnected while it was being used")
    if isinstance(exc, DriverConfigurationError):
        return StorageError(f"{where}: {exc}")  # two versions that don't fit together
    if isinstance(exc, PyMongoError):
        return StorageError(f"{where}: {name}")
    return None


def _code(exc: PyMongoError) -> int:
    if isinstance(exc, BulkWriteError):
        return int(next((error.get("code", 0) for error in exc.details.get("writeErrors", ())), 0))
    if isinstance(exc, OperationFailure):
        return exc.code or 0
    answer = exc.errors if isinstance(exc, AutoReconnect) else None
    return int(answer.get("code", 0)) if isinstance(answer, Mapping) else 0
