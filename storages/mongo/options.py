"""The arguments of ``MongoStorage``, checked without the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flowstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Options:
    """What ``MongoStorage`` was configured with; ``repr`` shows no secret."""

    db_name: str
    collection_name: str
    host: str | list[str] | None
    port: int | None
    uri: str | None = field(repr=False)
    username: str | None
    password: str | None = field(repr=False)
    auth_source: str | None
    replica_set: str | None
    tls: bool | None
    tls_ca_file: str | None
    write_concern: int | str
    journal: bool
    connect_timeout: float
    read_timeout: float
    max_pool_size: int

    @property
    def hosts(self) -> str | list[str]:
        """The URI, or the names of the servers."""
        if self.uri is not None:
            return self.uri
        return "localhost" if self.host is None else self.host

    @property
    def client(self) -> dict[str, Any]:
        """The driver's own options."""
        options = {
            "username": self.username,
            "password": self.password,
            "authSource": self.auth_source,
            "replicaSet": self.replica_set,
            "tls": self.tls,
            "tlsCAFile": self.tls_ca_file,
            "serverSelectionTimeoutMS": int(self.connect_timeout * 1000),
            "connectTimeoutMS": int(self.connect_timeout * 1000),
            "socketTimeoutMS": int(self.read_timeout * 1000),
            "waitQueueTimeoutMS": int(self.connect_timeout * 1000),
            "maxPoolSize": self.max_pool_size,
        }
        return {name: value for name, value in options.items() if value is not None}

    def describe(self) -> str:
        """Return what these lead to, without secrets."""
        hosts = self.hosts if isinstance(self.hosts, str) else ", ".join(self.hosts)
        # A URI may hold a password.
        hosts = hosts.rpartition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0]
        port = "" if self.port is None else f":{self.port}"
        return f"MongoDB at {hosts}{port}, collection {self.db_name}.{self.collection_name}"

    def check(self) -> None:
        """Raise ConfigurationError if arguments contradict or can't be used."""
        if self.uri is not None and (self.host is not None or self.port is not None):
            raise ConfigurationError("uri: give either the URI, or host and port")
        if self.uri is not None and not self.uri.startswith(("mongodb://", "mongodb+srv://")):
            raise ConfigurationError("uri: must begin with mongodb:// or mongodb+srv://")
        if "://" in str(self.host):
            raise ConfigurationError("host: this is a URI; give it as uri")
        for name in ("db_name", "collection_name"):
            value = getattr(self, name)
            if not value or "\0" in value or "$" in value:
                raise ConfigurationError(f"{name}: {value!r} can't be a name in MongoDB")
        if self.password is not None and self.username is None:
            raise ConfigurationError("password: the username is missing")
        if self.write_concern == 0:
            raise ConfigurationError("write_concern: 0 would not notice a lost write")
        for name in ("connect_timeout", "read_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be a number of seconds above 0, not {getattr(self, name)!r}")
