"""Capabilities of adapters, and guarantees of their databases.

Both are declared, never found out by trying. A capability is a small class that an adapter lists among its bases:
``isinstance(storage, QueriesFields)`` checks for it, ``require`` raises if a storage lacks it, and
``flowstore.testing`` proves it. What depends on the configured database, and not on the adapter, is part of its
``guarantees``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Literal

from flowstore.errors import UnsupportedError


class Capability:
    """Base class of all capabilities.

    The documentation shows the first line of each capability's docstring.
    """

    __slots__ = ()


class QueriesFields(Capability):
    """Select records by the fields of a JSON payload: ``Query.where``.

    The adapter selects as ``Query.matches`` does. Payloads that are not JSON text, or are compressed or encrypted, are
    never selected. A storage without this raises UnsupportedError for such a query.
    """

    __slots__ = ()


class NativeBlobs(Capability):
    """Store blobs in the database's facility for large objects.

    The adapter streams blobs in and out. A storage without this keeps blobs in pieces, one record each.
    """

    __slots__ = ()


class ServerExpiry(Capability):
    """Delete by itself what has expired.

    See the adapter for timing; until then readers ignore it. In a storage without this it stays until ``cleanup``
    deletes it.
    """

    __slots__ = ()


class Batches(Capability):
    """Read, store and delete hundreds of records in a few round trips.

    Or with many concurrent requests.

    The adapter overrides ``_get_many``, ``_put_many`` and ``_delete_many``. A storage without this processes one
    record at a time.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """A version of an adapter's tables, and what it changed."""

    version: str
    about: str


class VersionedSchema(Capability, ABC):
    """Bring the tables of an older version up to date: ``flowstore schema``.

    Tables are created in their latest version; ``connect`` refuses tables of other versions. None of these methods
    needs a connected storage.
    """

    __slots__ = ()

    @abstractmethod
    def schema_history(self) -> list[SchemaVersion]:
        """Return all versions, oldest first, without connecting.

        Raises:
            ConfigurationError: the package for migrations is not installed.
        """

    @abstractmethod
    def schema_version(self) -> str | None:
        """Return the version of the tables, or None if there are no tables."""

    @abstractmethod
    def upgrade_schema(self) -> list[SchemaVersion]:
        """Upgrade the tables to the latest version; return the applied versions.

        Several processes may call this at once: one upgrades, the others wait. No worker should be using the storage.
        """


CAPABILITIES: Final[tuple[type[Capability], ...]] = (Batches, QueriesFields, NativeBlobs, ServerExpiry, VersionedSchema)
"""All capabilities, in the order of the documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """What a database guarantees for an adapter's records, and its limits.

    In sentences for people. An adapter has one of these in ``guarantees`` for each database that it supports.

    Attributes:
        database: the name of the database.
        shared_by: who shares the records: the threads of a process, the processes of a machine, or all machines.
        process_ends: which acknowledged writes survive when the process ends or is killed.
        server_crashes: the same, when the database server is killed and restarted.
        power_fails: the same, when the machine that stores the records loses power.
        one_winner: whether exactly one of several concurrent writes or claims of the same thing succeeds.
        clock: whose clock decides when a record expires.
        largest_record: the largest payload of one record; larger values become blobs.
    """

    database: str
    shared_by: Literal["threads", "processes", "machines"]
    process_ends: str
    server_crashes: str
    power_fails: str
    one_winner: str
    clock: str
    largest_record: str


def capabilities_of(adapter: type[object]) -> tuple[type[Capability], ...]:
    """Return the capabilities of a class, ordered as ``CAPABILITIES``."""
    return tuple(capability for capability in CAPABILITIES if issubclass(adapter, capability))


def require(storage: object, capability: type[Capability]) -> None:
    """Raise UnsupportedError if the storage lacks a capability.

    The message names both.
    """
    if not isinstance(storage, capability):
        summary = (capability.__doc__ or "").partition("\n")[0].rstrip(".")
        raise UnsupportedError(
            f"{type(storage).__name__} lacks the capability {capability.__name__} ({summary[:1].lower()}{summary[1:]})"
        )
