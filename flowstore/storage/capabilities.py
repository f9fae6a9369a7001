"""What an adapter can do beyond the full contract, and what its database promises: declared, never found out by trying.

A capability is a small class that an adapter names among its bases. ``isinstance(storage, QueriesFields)`` asks for it,
``require`` refuses a storage that lacks it, and ``flowstore.testing`` proves it. What depends on the database that an
adapter is configured for, and not on the adapter, stands in its ``guarantees``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Literal

from flowstore.errors import UnsupportedError


class Capability:
    """Base of all capabilities. The first line of a capability's docstring is what documentation tells of it."""

    __slots__ = ()


class QueriesFields(Capability):
    """Select records by the fields of a JSON payload: ``Query.where``.

    The adapter selects as ``Query.matches`` does. What is not JSON text, or is compressed or encrypted, is never
    selected. A storage without this raises UnsupportedError for such a query.
    """

    __slots__ = ()


class NativeBlobs(Capability):
    """Keep a blob in the database's own place for large things, not cut into records.

    The adapter streams a blob in and out of that place. A storage without this keeps blobs all the same, in pieces.
    """

    __slots__ = ()


class ServerExpiry(Capability):
    """Delete by itself what has expired.

    When, is told in the adapter's description; until then it counts as gone, as everywhere. In a storage without this
    it stays until ``cleanup`` deletes it.
    """

    __slots__ = ()


class Batches(Capability):
    """Read, store and delete hundreds of records in a few round trips, or with many requests at once.

    The adapter overrides ``_get_many``, ``_put_many`` and ``_delete_many``. A storage without this does the same one
    record after the other.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """A version of the tables that an adapter keeps records in, and what came with it."""

    version: str
    about: str


class VersionedSchema(Capability, ABC):
    """Bring the tables of an older version up to date: ``flowstore schema``.

    Tables are created in their latest version; ``connect`` refuses those of another one. None of these methods needs a
    connected storage.
    """

    __slots__ = ()

    @abstractmethod
    def schema_history(self) -> list[SchemaVersion]:
        """Return all versions that there are, the oldest first; without connecting.

        Raises:
            ConfigurationError: what migrations need is not installed.
        """

    @abstractmethod
    def schema_version(self) -> str | None:
        """Return the version of the tables, or ``None`` where there are none."""

    @abstractmethod
    def upgrade_schema(self) -> list[SchemaVersion]:
        """Bring the tables to the latest version; return the versions that they went through.

        Several may try at once: one does it, the others wait. No worker that uses the storage should be running.
        """


CAPABILITIES: Final[tuple[type[Capability], ...]] = (Batches, QueriesFields, NativeBlobs, ServerExpiry, VersionedSchema)
"""All capabilities, in the order in which documentation tells of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """What one database promises when an adapter keeps records in it, and where that ends: sentences for people.

    An adapter has one of these in ``guarantees`` for each database that it can be configured for.

    Attributes:
        database: the name of the database.
        shared_by: who sees the same records: the threads of a process, the processes of a machine, or all machines.
        process_ends: what is kept of that which was acknowledged when the process ends or is killed.
        server_crashes: the same, when the database's server is killed and started again.
        power_fails: the same, when the machine that keeps the records loses power.
        one_winner: whether of several that store, replace or claim the same at once exactly one succeeds.
        clock: whose clock decides when a record has expired.
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
    """Return the capabilities that an adapter's class declares, in the order of ``CAPABILITIES``."""
    return tuple(capability for capability in CAPABILITIES if issubclass(adapter, capability))


def require(storage: object, capability: type[Capability]) -> None:
    """Refuse a storage that lacks a capability.

    Raises:
        UnsupportedError: it does; the message names both.
    """
    if not isinstance(storage, capability):
        summary = (capability.__doc__ or "").partition("\n")[0].rstrip(".")
        raise UnsupportedError(
            f"{type(storage).__name__} lacks the capability {capability.__name__} ({summary[:1].lower()}{summary[1:]})"
        )
