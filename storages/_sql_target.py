"""What a connection string means, found out without loading a driver."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from flowstore.errors import ConfigurationError

SCHEMES: Final[Mapping[str, Literal["sqlite", "postgresql", "mysql"]]] = MappingProxyType(
    {
        "sqlite": "sqlite",
        "sqlite+pysqlite": "sqlite",
        "postgresql": "postgresql",
        "postgres": "postgresql",
        "postgresql+psycopg": "postgresql",
        "mysql": "mysql",
        "mysql+pymysql": "mysql",
        "mariadb": "mysql",
        "mariadb+pymysql": "mysql",
    }
)

_PORTS: Final = {"postgresql": 5432, "mysql": 3306}
_PRODUCTS: Final = {"postgresql": "PostgreSQL", "mysql": "MySQL"}
MYSQL_OPTIONS: Final = ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert", "ssl_verify_identity")
"""What may follow the ``?`` of a connection string of MySQL, besides its character set."""

_CHARSETS: Final = ("utf8", "utf8mb4")
_ESCAPES: Final = "in a user name or password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25"


@dataclass(frozen=True, slots=True)
class Target:
    """A database: a SQLite file (``None``: in memory), or one on a server, which ``str()`` names without secrets."""

    product: Literal["sqlite", "postgresql", "mysql"]
    path: str | None = None
    host: str = ""
    port: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        if self.product == "sqlite":
            return self.path or "the database in memory"
        host = f"[{self.host}]" if ":" in self.host else self.host or "the local socket"
        return f"{_PRODUCTS[self.product]} at {host}:{self.port}, database {self.database!r}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to use a database; see ``SqlStorage``."""

    echo: bool
    synchronous: Literal["FULL", "NORMAL"]
    timeout: float
    connect_timeout: float
    pool_limit: int | None


def parse(connection_string: str) -> Target:
    """Take a connection string apart.

    Raises:
        ConfigurationError: it can't be used; the message never shows what may be a password.
    """
    scheme, found, rest = connection_string.partition("://")
    product = SCHEMES.get(scheme.lower()) if found else None
    if product is None:
        what = f"{scheme!r} is not supported" if found else "it has no scheme://"
        raise ConfigurationError(
            f"connection_string: {what}; supported are sqlite:///path/to/file.db,"
            " postgresql://user:password@host:5432/database and mysql://user:password@host:3306/database"
        )
    if product == "sqlite":
        return Target(product, path=_path(rest))
    return _on_server(product, rest)


def _path(rest: str) -> str | None:
    if "?" in rest:
        raise ConfigurationError(
            "connection_string: SQLite takes no options after '?'; use the arguments timeout and synchronous"
        )
    if rest in ("", "/", "/:memory:"):
        return None
    if not rest.startswith("/"):
        raise ConfigurationError(
            f"connection_string: a path needs three slashes, and a fourth if it is absolute: sqlite:///{rest}"
        )
    return os.path.abspath(rest[1:])


def _on_server(product: Literal["postgresql", "mysql"], rest: str) -> Target:
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port or _PORTS[product]
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        if parts.fragment:
            raise ValueError
    except ValueError:
        # What looks like a port may be the rest of a password.
        raise ConfigurationError(
            f"connection_string: what follows {product}:// is not user:password@host:port/database?options; {_ESCAPES}"
        ) from None
    database = unquote(parts.path[1:])
    if not database:
        raise ConfigurationError("connection_string: the name of the database is missing: …@host/database")
    if product == "mysql" and options.pop("charset", "utf8mb4").lower() not in _CHARSETS:
        raise ConfigurationError("connection_string: charset must be utf8mb4: text is always stored as UTF-8")
    if product == "mysql" and (unknown := [name for name in options if name not in MYSQL_OPTIONS]):
        raise ConfigurationError(
            f"connection_string: the option {unknown[0]!r} is not known; known are {', '.join(MYSQL_OPTIONS)}"
        )
    return Target(
        product,
        host=unquote(parts.hostname or ""),
        port=port,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        database=database,
        options=options,
    )
