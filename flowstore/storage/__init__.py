"""The two bases of adapters: ``DataStorage``, the minimum, and ``RecordStorage``, the full contract."""

from __future__ import annotations

from flowstore.record.damage import tell
from flowstore.record.headers import check_headers, is_generation, mistake_in
from flowstore.storage.blobs import Blobs, blob_facts
from flowstore.storage.capabilities import (
    Batches,
    Capability,
    Guarantees,
    NativeBlobs,
    QueriesFields,
    SchemaVersion,
    ServerExpiry,
    VersionedSchema,
)
from flowstore.storage.child import Child
from flowstore.storage.claims import Claims
from flowstore.storage.connected import ConnectedStorage
from flowstore.storage.executions import Executions, is_earlier
from flowstore.storage.minimum import DataStorage, ExcInfo, keeps_errors
from flowstore.storage.payloads import PART, Content
from flowstore.storage.revisions import new_revision
from flowstore.storage.streams import Readable, Source
from flowstore.storage.upkeep import Upkeep

__all__ = [
    "PART",
    "Batches",
    "Capability",
    "Child",
    "ConnectedStorage",
    "Content",
    "DataStorage",
    "ExcInfo",
    "Guarantees",
    "NativeBlobs",
    "QueriesFields",
    "Readable",
    "RecordStorage",
    "SchemaVersion",
    "ServerExpiry",
    "Source",
    "VersionedSchema",
    "blob_facts",
    "check_headers",
    "is_earlier",
    "is_generation",
    "keeps_errors",
    "mistake_in",
    "new_revision",
    "tell",
]


class RecordStorage(Claims, Executions, Upkeep, Blobs):
    """An adapter that keeps records, from which everything else follows.

    An adapter implements ``connect``, ``disconnect``, ``is_connected`` and the methods with a leading underscore; it
    overrides ``_get_many`` where its database can batch, and ``_translate`` to turn its driver's exceptions into
    flowstore's. All public methods may be called from several threads, and repeated without harm.

    A revision never comes again: that of a new record is a number that none before had, and grows by one with each
    replacement.
    """
