"""The base classes of adapters: ``DataStorage`` and ``RecordStorage``."""

from __future__ import annotations

from flowstore.record.damage import report_damage
from flowstore.record.headers import check_headers, is_generation, mistake_in
from flowstore.storage.attempts import Attempts, is_earlier_attempt
from flowstore.storage.base import DataStorage, ExcInfo, keeps_errors
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
from flowstore.storage.claims import Claims
from flowstore.storage.connected import ConnectedStorage
from flowstore.storage.nested import NestedStorage
from flowstore.storage.payloads import PART, Content
from flowstore.storage.revisions import new_revision
from flowstore.storage.streams import Readable, Source
from flowstore.storage.upkeep import Upkeep

__all__ = [
    "PART",
    "Batches",
    "Capability",
    "ConnectedStorage",
    "Content",
    "DataStorage",
    "ExcInfo",
    "Guarantees",
    "NativeBlobs",
    "NestedStorage",
    "QueriesFields",
    "Readable",
    "RecordStorage",
    "SchemaVersion",
    "ServerExpiry",
    "Source",
    "VersionedSchema",
    "blob_facts",
    "check_headers",
    "is_earlier_attempt",
    "is_generation",
    "keeps_errors",
    "mistake_in",
    "new_revision",
    "report_damage",
]


class RecordStorage(Claims, Attempts, Upkeep, Blobs):
    """The base class of adapters that store records.

    An adapter implements ``connect``, ``disconnect``, ``is_connected`` and the methods with a leading underscore. It
    overrides ``_get_many`` if its database supports batches, and ``_translate`` to turn its driver's exceptions into
    flowstore's. All public methods are thread-safe and can be repeated safely.

    Revisions are never reused: a new record gets a number that no record had before, and each replacement adds one.
    """
