"""A client of MongoDB and its collection, for one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import ASCENDING, DeleteOne, MongoClient, ReturnDocument, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.operations import IndexModel

from flowstore.errors import ConfigurationError, UnsupportedError
from flowstore.storages.shared.clock import ServerClock, elapsed

from .blobs import BlobFiles
from .documents import REVISION, MongoDocument
from .errors import REFUSED, only_exist, translate
from .options import Options

GRACE: Final = 86_400
"""Seconds that a record stays after it has expired before the server deletes it."""

_INDEXES: Final = {
    "flowstore_order": ("position",),
    "flowstore_run": ("run_id", "position"),
    "flowstore_kind": ("kind", "flow_name", "position"),
    "flowstore_task": ("task_id", "position"),
    "flowstore_expiry": ("expires_at",),
}
_RECLAIM: Final = "flowstore_reclaim"


class Connection:
    """A client and its collection; several threads may call it.

    Attributes:
        where: the collection and its servers, for messages.
        collection: the driver's collection; calls to it stand inside ``calling``.
        blobs: the files in GridFS.
        clock: the server's clock, from ``prepare`` on.
    """

    clock: ServerClock

    def __init__(self, options: Options) -> None:
        try:
            # Connects in the background. The driver sends nothing twice: a second try of a write looks like another
            # writer's, and one of a read would wait for a silent server as long as the first.
            self._client: MongoClient[MongoDocument] = MongoClient(
                options.hosts, options.port, retryWrites=False, retryReads=False, **options.client
            )
        except (InvalidURI, DriverConfigurationError, ValueError) as exc:
            # The address may hold a password, and so may the driver's message.
            raise ConfigurationError(f"MongoDB's address or options are not right ({type(exc).__name__})") from None
        self.where = f"{options.db_name}.{options.collection_name} at {_servers(self._client)}"
        concern = WriteConcern(options.write_concern, j=options.journal or None)
        self.collection: Collection[MongoDocument] = self._client[options.db_name].get_collection(
            options.collection_name, write_concern=concern
        )
        self.blobs = BlobFiles(self)

    def close(self) -> None:
        """Close all connections to the servers."""
        self._client.close()

    def prepare(self) -> None:
        """Check the server, create missing indexes, and read the clock.

        Raises:
            UnsupportedError: the server can't change a document in one atomic step.
        """
        with self.calling():
            version = self._client.admin.command("buildInfo").get("ferretdbVersion")
            if version is not None:
                raise UnsupportedError(
                    f"{self.where} is FerretDB {version}, which gives several writers the same revision; use MongoDB"
                )
            asked = elapsed()
            # The oldest form of "hello", which every compatible server knows.
            answer: datetime | None = self._client.admin.command("isMaster").get("localTime")
            self.clock = ServerClock(answer.replace(tzinfo=UTC).timestamp() if answer else None, 0.001, asked)
            existing = set(self.collection.index_information())
            missing = [
                IndexModel([(field, ASCENDING) for field in fields], name=name)
                for name, fields in _INDEXES.items()
                if name not in existing
            ]
            if missing:
                self.collection.create_indexes(missing)
            if _RECLAIM not in existing:
                self._create_expiry_index()

    def _create_expiry_index(self) -> None:
        try:
            self.collection.create_index("reclaim_at", name=_RECLAIM, expireAfterSeconds=GRACE)
        except OperationFailure as exc:
            # Compatible servers don't all delete by time; flowstore's cleanup does.
            if exc.code in REFUSED:
                raise

    @contextmanager
    def calling(self, *, mutates: bool = False) -> Iterator[None]:
        """Translate the driver's exceptions, except for existing documents.

        Args:
            mutates: whether a call without an answer may have changed something.
        """
        try:
            yield
        except DuplicateKeyError:
            raise
        except BulkWriteError as exc:
            if only_exist(exc):
                raise
            self._raise(exc, mutates)
        except (PyMongoError, DocumentTooLarge) as exc:
            self._raise(exc, mutates)

    def _raise(self, exc: Exception, mutates: bool) -> None:
        error = translate(exc, self.where, mutates)
        raise exc if error is None else error from exc

    def insert(self, document: MongoDocument) -> bool:
        """Insert a document; return False if one with its ``_id`` exists."""
        try:
            with self.calling(mutates=True):
                self.collection.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    def update(self, condition: Mapping[str, Any], change: MongoDocument) -> int | None:
        """Update a document; return its new revision, or None if refused."""
        with self.calling(mutates=True):
            document = self.collection.find_one_and_update(
                condition, change, REVISION, return_document=ReturnDocument.AFTER
            )
        return None if document is None else int(document["revision"])

    def insert_many(self, documents: Sequence[MongoDocument]) -> list[int]:
        """Insert documents; return the positions of those that exist already."""
        try:
            with self.calling(mutates=True):
                self.collection.insert_many(documents, ordered=False)
        except BulkWriteError as exc:
            return [error["index"] for error in exc.details["writeErrors"]]
        return []

    def upsert_many(self, changes: Sequence[tuple[MongoDocument, MongoDocument]]) -> tuple[list[int], list[int]]:
        """Update documents by filter, each inserted if its filter finds none.

        Returns:
            The positions of those that exist but not as the filter says, and of those that were inserted.
        """
        details: Mapping[str, Any]
        updates = [UpdateOne(condition, change, upsert=True) for condition, change in changes]
        try:
            with self.calling(mutates=True):
                details = self.collection.bulk_write(updates, ordered=False).bulk_api_result
        except BulkWriteError as exc:
            details = exc.details
        return [one["index"] for one in details["writeErrors"]], [one["index"] for one in details["upserted"]]

    def delete_each(self, conditions: Sequence[MongoDocument]) -> int:
        """Delete one document for each filter; return how many were deleted."""
        with self.calling(mutates=True):
            deletes = [DeleteOne(condition) for condition in conditions]
            return self.collection.bulk_write(deletes, ordered=False).deleted_count


def _servers(client: MongoClient[MongoDocument]) -> str:
    return ",".join(sorted(f"{host}:{port}" for host, port in client.topology_description.server_descriptions()))
