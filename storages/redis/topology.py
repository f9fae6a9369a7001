"""Which server has a key: a single one, a primary, or one of a cluster."""

# The driver leaves most of its functions without annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import AskError, RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from flowstore.errors import ConfigurationError, UnreachableError

from .errors import unreachable
from .options import Options, cert_reqs


@dataclass(frozen=True, slots=True)
class Server:
    """A server; its text shows no secret."""

    name: str
    address: tuple[str, int] | None = None

    def __str__(self) -> str:
        return self.name


class Topology(ABC):
    """Find the server of a key, and make connections to it."""

    @abstractmethod
    def server(self, base: bytes) -> Server:
        """Return the server of the keys with this prefix."""

    @abstractmethod
    def servers(self) -> list[Server]:
        """Return all primaries."""

    @abstractmethod
    def connection(self, server: Server) -> AbstractConnection:
        """Return a new connection, not connected yet."""

    def redirected(self, exc: AskError, *, refresh: bool) -> Server:
        """Return the server to which another one redirects."""
        raise ConfigurationError(f"the server belongs to a cluster ({exc}): set cluster: true") from exc

    def lost(self, server: Server) -> None:  # noqa: B027
        """Forget what is known of a server that can't be used."""

    def close(self) -> None:  # noqa: B027
        """Close the connections by which servers are found."""


class OneServer(Topology):
    """A single server, at an address, a URL or a socket."""

    def __init__(self, options: Options) -> None:
        self._arguments, self._kind, name = _arguments(options)
        self._server = Server(name)

    def server(self, base: bytes) -> Server:
        return self._server

    def servers(self) -> list[Server]:
        return [self._server]

    def connection(self, server: Server) -> AbstractConnection:
        return self._kind(**self._arguments)


class Sentinels(Topology):
    """The primary that the Sentinels name when a connection is made."""

    def __init__(self, options: Options) -> None:
        arguments = {**_common(options), **_ssl(options)}
        watchers = {key: value for key, value in arguments.items() if key not in ("db", "username", "password")}
        watchers |= {"username": options.sentinel_username, "password": options.sentinel_password, "ssl": options.ssl}
        sentinel = Sentinel(list(options.sentinels), sentinel_kwargs=watchers)
        name = options.service_name or ""
        self._pool = SentinelConnectionPool(name, sentinel, ssl=options.ssl, **arguments)
        self._sentinel = sentinel
        self._server = Server(f"the primary of {name!r}")

    def server(self, base: bytes) -> Server:
        return self._server

    def servers(self) -> list[Server]:
        return [self._server]

    def connection(self, server: Server) -> AbstractConnection:
        # Not from the pool, which counts connections that it never gets back.
        return self._pool.connection_class(**self._pool.connection_kwargs)  # type: ignore[no-any-return]

    def close(self) -> None:
        for client in self._sentinel.sentinels:
            client.close()


class Cluster(Topology):
    """The servers of a cluster, and their slots."""

    def __init__(self, options: Options) -> None:
        self._arguments, self._kind, name = _arguments(options)
        self._name = name
        self._start = self._arguments.pop("host"), self._arguments.pop("port")
        # A cluster has a single database, and its client does not take the argument.
        del self._arguments["db"]
        self._refreshing = threading.Lock()
        try:
            self._client = RedisCluster(
                startup_nodes=[ClusterNode(*self._start)],
                ssl=issubclass(self._kind, SSLConnection),
                require_full_coverage=False,
                **self._arguments,
            )
        except (RedisError, RedisClusterException, OSError) as exc:
            raise unreachable(exc, f"the cluster at {name}") from exc
        self._known: dict[bytes, Server] = {}

    def server(self, base: bytes) -> Server:
        try:
            return self._known[base]
        except KeyError:
            pass
        try:
            node = self._client.get_node_from_key(base)
        except RedisClusterException as exc:
            self._refresh()
            raise UnreachableError(f"no server of the cluster at {self._name} has the keys {base!r}…") from exc
        server = self._known[base] = _server_at(node.host, node.port)
        return server

    def servers(self) -> list[Server]:
        return sorted({_server_at(node.host, node.port) for node in self._client.get_primaries()}, key=str)

    def connection(self, server: Server) -> AbstractConnection:
        host, port = server.address or ("", 0)
        return self._kind(**{**self._arguments, "host": host, "port": port})

    def redirected(self, exc: AskError, *, refresh: bool) -> Server:
        if refresh:
            self._refresh()
        return _server_at(exc.host, exc.port)

    def lost(self, server: Server) -> None:
        self._refresh()

    def _refresh(self) -> None:
        with self._refreshing:
            try:
                # With the configured name: all addresses that it resolved to may have changed by now.
                start, manager = ClusterNode(*self._start), self._client.nodes_manager
                manager.startup_nodes = {**manager.startup_nodes, start.name: start}
                manager.initialize()
            except (RedisError, RedisClusterException, OSError) as exc:
                raise unreachable(exc, f"the cluster at {self._name}") from exc
            finally:
                self._known = {}

    def close(self) -> None:
        self._client.close()


def find_topology(options: Options) -> Topology:
    """Return the configured topology; a cluster is connected to."""
    if options.sentinels:
        return Sentinels(options)
    return Cluster(options) if options.cluster else OneServer(options)


def _server_at(host: str, port: int) -> Server:
    return Server(f"{host}:{port}", (host, port))


def _common(options: Options) -> dict[str, Any]:
    return {
        "db": options.db,
        "username": options.username,
        "password": options.password,
        # Until a connection is made; then ``timeout`` counts.
        "socket_timeout": options.connect_timeout,
        "socket_connect_timeout": options.connect_timeout,
        # A mutation that the driver sends again would conflict with its own first try.
        "retry": Retry(NoBackoff(), 0),
        # The older protocol sends nothing but answers: an idle connection turns readable only when it is closed.
        "protocol": 2,
    }


def _ssl(options: Options) -> dict[str, Any]:
    if not options.ssl and not (options.url or "").startswith("rediss:"):
        return {}
    return {
        "ssl_ca_certs": options.ssl_ca_certs,
        "ssl_certfile": options.ssl_certfile,
        "ssl_keyfile": options.ssl_keyfile,
        "ssl_cert_reqs": options.ssl_cert_reqs,
        "ssl_check_hostname": options.ssl_check_hostname and options.ssl_cert_reqs != "none",
    }


def _arguments(options: Options) -> tuple[dict[str, Any], type[AbstractConnection], str]:
    """Return a connection's arguments and class, and the server's name."""
    arguments = {**_common(options), **_ssl(options)}
    if options.url is not None:
        try:
            given = parse_url(options.url)
        except ValueError as exc:
            raise ConfigurationError(f"url: {exc}") from None
        kind = given.pop("connection_class", Connection)
        arguments |= given
        if kind is SSLConnection:
            arguments["ssl_cert_reqs"] = cert_reqs(arguments["ssl_cert_reqs"])
            arguments["ssl_check_hostname"] &= arguments["ssl_cert_reqs"] != "none"
    else:
        kind = SSLConnection if options.ssl else Connection
        arguments |= {"host": options.host, "port": options.port}
    path = arguments.get("path") if options.url is not None else options.unix_socket_path
    if path is not None:
        for name in ("host", "port"):
            arguments.pop(name, None)
        return arguments | {"path": path}, UnixDomainSocketConnection, f"Redis at {path}"
    arguments.setdefault("host", "localhost")
    arguments.setdefault("port", 6379)
    return arguments, kind, f"Redis at {arguments['host']}:{arguments['port']}"
