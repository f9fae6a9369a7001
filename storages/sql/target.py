"""What a connection string means, found out without loading a driver."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

from flowstore.errors import ConfigurationError
from flowstore.storages.sql.options import check_options

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
_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]*))?")
_ESCAPES: Final = (
    "in a user name or password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25, [ as %5B, ] as %5D"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A database: a SQLite file (``None``: in memory), or one on a server, which ``str()`` names without secrets.

    Several hosts are separated by commas, and so are their ``ports``.
    """

    product: Literal["sqlite", "postgresql", "mysql"]
    path: str | None = None
    host: str = ""
    port: int = 0
    ports: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        if self.product == "sqlite":
            return self.path or "the database in memory"
        ports = self.ports.split(",") if self.ports else [str(self.port)]
        hosts = zip(self.host.split(","), ports, strict=True)
        shown = (f"{f'[{host}]' if ':' in host else host or 'the local socket'}:{port}" for host, port in hosts)
        return f"{_PRODUCTS[self.product]} at {','.join(shown)}, database {self.database!r}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to use a database; see ``SqlStorage``."""

    echo: bool
    synchronous: Literal["FULL", "NORMAL"]
    timeout: float
    connect_timeout: float
    pool_limit: int | None
    pooler: bool


def parse(connection_string: str) -> Target:
    """Take a connection string apart.

    Raises:
        ConfigurationError: it can't be used; the message never shows what may be a password.
    """
    scheme, found, rest = connection_string.partition("://")
    product = SCHEMES.get(scheme.lower()) if found else None
    if product is None:
        raise ConfigurationError(f"connection_string: {_not_known(scheme if found else None)}")
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


def _not_known(scheme: str | None) -> str:
    base = "" if scheme is None else scheme.lower().partition("+")[0]
    what = "it has no scheme://" if scheme is None else f"{scheme!r} is not supported"
    if base in SCHEMES:
        return f"{what}: write {base}:// instead"
    return (
        f"{what}; supported are sqlite:///path/to/file.db, and postgresql:// and mysql:// followed by"
        " user:password@host:port/database"
    )


def _on_server(product: Literal["postgresql", "mysql"], rest: str) -> Target:
    try:
        if "#" in rest:
            raise ValueError
        place, _, query = rest.partition("?")
        place, _, database = place.partition("/")
        login, has_login, place = place.rpartition("@")
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        found = [_HOST.fullmatch(one) for one in place.split(",")]
        if not all(found) or (product == "mysql" and len(found) > 1):
            raise ValueError
        hosts = [(one["v6"] or unquote(one["name"] or ""), int(one["port"] or _PORTS[product])) for one in found if one]
        if any(not 0 < port < 65536 for _, port in hosts):
            raise ValueError
    except ValueError:
        # What looks like a port may be the rest of a password.
        raise ConfigurationError(
            f"connection_string: what follows {product}:// is not user:password@host:port/database?options; {_ESCAPES}"
        ) from None
    if not database:
        raise ConfigurationError("connection_string: the name of the database is missing: …@host/database")
    check_options(product, options)
    user, has_password, password = login.partition(":")
    return Target(
        product,
        host=",".join(host for host, _ in hosts),
        port=hosts[0][1],
        ports=",".join(str(port) for _, port in hosts) if len(hosts) > 1 else "",
        user=unquote(user) if has_login else None,
        password=unquote(password) if has_password else None,
        database=unquote(database),
        options=options,
    )
