"""Records in Redis or Valkey."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flowstore.errors import StorageError, UnsupportedError
from flowstore.record import Page, Query, Record, Ref
from flowstore.storage import Batches, ConnectedStorage, Guarantees, RecordStorage
from flowstore.storages.shared.clock import elapsed
from flowstore.storages.shared.headers import conflict
from flowstore.storages.shared.mistakes import ChecksArguments

from .layout import LARGEST, Layout, read_record, shard_of
from .options import Options, sentinel_addresses

if TYPE_CHECKING:
    from .connection import Connection

log = logging.getLogger(__name__)


class RedisStorage(ChecksArguments, ConnectedStorage["Connection"], RecordStorage, Batches):
    """Keep records in Redis 5 or newer, or in Valkey.

    The server may be a single one, the primary of Sentinels, or a cluster.

    Each record is a hash with the fields ``ref``, ``headers`` and ``payload``, which redis-cli shows as JSON; sorted
    sets find records by kind, flow, task and run. Storing, also under a condition, is one script that changes the
    record and its indexes together, in one round trip; retrieving is one round trip too.

    Records survive the death of this process. They survive a crash of the server or a loss of power only with
    ``appendonly yes``, and to the last record only with ``appendfsync always``. A failover, by Sentinel or in
    a cluster, can lose what was stored just before it, because replicas lag behind. ``connect`` checks the
    settings; see ``unsafe_settings``.

    A record that has expired stays until a cleanup: keys get no time to live, so that a full server with a
    ``volatile-*`` policy evicts none. Listings of one server have the order of first storing; in a
    cluster, where each server numbers by its own clock, the order of different servers' records is as exact as those.

    Payloads over 4 MiB, and blobs, are kept in pieces: in records of the kind ``piece``, of 1 MiB each. Any
    number of threads may use an instance; each has its own connection.

    Args:
        host: the server's name or address; with ``cluster`` that of any of its servers.
        port: the server's port.
        db: the number of the database; a cluster has 0 only.
        username: the user, where the server has users.
        password: the password.
        charset: ``utf-8``; text is always stored as UTF-8.
        url: ``redis://user:password@host:port/db``, ``rediss://…`` for TLS, or ``unix:///path``, in place of host and
            port. What the URL says goes before the other arguments.
        unix_socket_path: the path of the server's socket, in place of host and port.
        ssl: use TLS.
        ssl_ca_certs: a file with the certificates to trust, in place of the system's.
        ssl_certfile: a file with the client's certificate.
        ssl_keyfile: a file with the key of the client's certificate.
        ssl_cert_reqs: ``required``, ``optional`` or ``none``: whether the server's certificate is checked.
        ssl_check_hostname: whether the certificate has to be for that host.
        sentinels: ``host:port`` of the Sentinels, in place of host and port. The connection always goes to the primary.
        service_name: the name under which the Sentinels know the primary.
        sentinel_username: the user at the Sentinels.
        sentinel_password: the password at the Sentinels.
        cluster: the server belongs to a Redis Cluster.
        prefix: the prefix of all keys. Storages with different prefixes share a database without seeing each other.
        timeout: seconds to wait for an answer.
        connect_timeout: seconds to wait for a connection, and for each answer of Sentinels, and of a cluster about
            itself.
        unsafe_settings: what ``connect`` does if the server may evict records, or loses them on a restart:
            ``warn`` logs it, ``refuse`` raises ``UnsupportedError``, ``ignore`` only notes it in ``warnings``.

    Raises:
        ConfigurationError: arguments contradict each other, or the URL is not one.
        ValueError: another argument is not one of the values above.
    """

    requires: ClassVar[tuple[str, ...]] = ("redis",)
    extra: ClassVar[str | None] = "redis"
    guarantees: ClassVar[tuple[Guarantees, ...]] = (
        Guarantees(
            database="Redis, Valkey",
            shared_by="machines",
            process_ends="everything",
            server_crashes="everything with `appendonly yes`; without, what its last snapshot has",
            power_fails="everything with `appendfsync always`; with `everysec` the last second may be lost",
            one_winner="yes, but for a failover, which may lose the last changes",
            clock="the server's",
            largest_record="512 MB",
        ),
    )

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        charset: str = "utf-8",
        *,
        url: str | None = None,
        unix_socket_path: str | None = None,
        ssl: bool = False,
        ssl_ca_certs: str | None = None,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        ssl_cert_reqs: Literal["required", "optional", "none"] = "required",
        ssl_check_hostname: bool = True,
        sentinels: list[str] | None = None,
        service_name: str | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        cluster: bool = False,
        prefix: str = "flowstore",
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        unsafe_settings: Literal["warn", "refuse", "ignore"] = "warn",
    ) -> None:
        super().__init__()
        if charset.lower() not in ("utf-8", "utf8"):
            raise ValueError(f"charset must be utf-8, not {charset!r}: text is always stored as UTF-8")
        self._options = Options(
            host=host,
            port=port,
            db=db,
            username=username,
            password=password,
            url=url,
            unix_socket_path=unix_socket_path,
            ssl=ssl,
            ssl_ca_certs=ssl_ca_certs,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            ssl_cert_reqs=ssl_cert_reqs,
            ssl_check_hostname=ssl_check_hostname,
            sentinels=sentinel_addresses(sentinels or ()),
            service_name=service_name,
            sentinel_username=sentinel_username,
            sentinel_password=sentinel_password,
            cluster=cluster,
            prefix=prefix,
            timeout=timeout,
            connect_timeout=connect_timeout,
            unsafe_settings=unsafe_settings,
        )
        self._options.check()
        self._layout = Layout(prefix, shared_counter=not cluster)
        self._offset = 0.0
        self.warnings: tuple[str, ...] = ()
        """Warnings of the last ``connect`` about the servers' settings."""
        self.servers: Mapping[str, Mapping[str, str]] = {}
        """Version and settings of each server at the last ``connect``."""

    def describe(self) -> str:
        return self._options.describe()

    def preload(self) -> None:
        from . import connection, listing, settings  # noqa: F401

    def _open(self) -> Connection:
        from .connection import Connection
        from .topology import find_topology

        return Connection(find_topology(self._options), self._options.timeout)

    def _prepare(self, connection: Connection) -> None:
        """Check the servers' version and settings, and read the clock.

        Raises:
            UnreachableError: no server answers, or it refuses the user or password.
            UnsupportedError: it is too old, or its settings are unsafe and ``unsafe_settings`` is ``refuse``.
        """
        from .settings import read_settings

        asked = elapsed()
        seconds, microseconds = connection.call(self._layout.base(0), (b"TIME",))
        self._offset = int(seconds) + int(microseconds) / 1e6 - (asked + elapsed()) / 2
        servers, warnings = read_settings(connection)
        self.servers, self.warnings = servers, tuple(warnings)
        if warnings and self._options.unsafe_settings == "refuse":
            raise UnsupportedError(f"refused by unsafe_settings: {'; '.join(warnings)}")
        if self._options.unsafe_settings == "warn":
            for warning in warnings:
                log.warning("%s", warning)

    def now(self) -> float:
        """Return the server's time, by the offset measured when connecting."""
        return elapsed() + self._offset

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        base, command = self._getting(ref, payload)
        return read_record(self._connection().call(base, command), ref, payload)

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        answers = self._connection().call_many([self._getting(ref, True) for ref in refs])
        return [read_record(answer, ref, True) for ref, answer in zip(refs, answers, strict=True)]

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        base, command = self._putting(record, if_revision, now)
        answer = self._connection().call(base, command, mutates=True)
        if type(answer) is int:
            return answer
        raise _conflict(record.ref, answer, if_revision)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        commands = [self._putting(record, None, now) for record in records]
        return self._connection().call_many(commands, mutates=True)

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        commands = [self._putting(record, 0, now) for record in records]
        return [type(answer) is int for answer in self._connection().call_many(commands, mutates=True)]

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        base, command = self._deleting(ref, if_revision)
        answer = self._connection().call(base, command, mutates=True)
        if type(answer) is int:
            return answer > 0
        raise _conflict(ref, answer, if_revision)

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        return sum(self._connection().call_many([self._deleting(ref, None) for ref in refs], mutates=True))

    def _delete_seen(self, records: Sequence[Record]) -> int:
        commands = [self._deleting(record.ref, record.revision) for record in records]
        answers = self._connection().call_many(commands, mutates=True)
        return sum(answer for answer in answers if type(answer) is int)

    def _purge(self) -> int:
        from .listing import purge

        return purge(self._connection(), self._layout)

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        from .listing import Scan

        return Scan(self._connection(), self._layout, query).page(cursor, limit, payload)

    def _count(self, query: Query) -> int:
        from .listing import Scan

        count = Scan(self._connection(), self._layout, query).count()
        return super()._count(query) if count is None else count

    def _largest_payload(self) -> int | None:
        return LARGEST

    def _translate(self, exc: Exception) -> StorageError | None:
        from .errors import translate

        return translate(exc, ", ".join(self.servers) or "Redis")

    def _getting(self, ref: Ref, payload: bool) -> tuple[bytes, Sequence[bytes]]:
        shard = shard_of(ref.key)
        return self._layout.base(shard), self._layout.get(shard, ref.address.hex().encode(), payload)

    def _putting(self, record: Record, if_revision: int | None, now: float) -> tuple[bytes, Sequence[bytes]]:
        shard = shard_of(record.ref.key)
        return self._layout.base(shard), self._layout.put(shard, record, if_revision, now)

    def _deleting(self, ref: Ref, if_revision: int | None) -> tuple[bytes, Sequence[bytes]]:
        shard = shard_of(ref.key)
        return self._layout.base(shard), self._layout.delete(shard, ref, if_revision)


def _conflict(ref: Ref, answer: Sequence[Any], if_revision: int | None) -> StorageError:
    return conflict(ref, read_record(answer, ref, True) if answer else None, if_revision or 0)
