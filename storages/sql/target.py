"""Connection strings: which database they name, checked without loading a driver."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

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
_NAMES: Final = {"postgresql": "PostgreSQL", "mysql": "MySQL"}
_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]*))?")
_ESCAPES: Final = (
    "in a user name or password, write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25, [ as %5B, ] as %5D"
)

# Options after the "?"

_MYSQL: Final = ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_cert", "ssl_verify_identity")
_CHARSETS: Final = ("utf8", "utf8mb4")
_SWITCHES: Final = ("0", "1", "true", "false", "yes", "no", "on", "off")

_NUMBERS: Final = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "connect_timeout")
_ONE_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "channel_binding": ("disable", "prefer", "require"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
    **dict.fromkeys(("keepalives", "sslcompression", "sslsni", "gssdelegation"), ("0", "1")),
}
# Options of libpq, without those that flowstore sets itself (client_encoding, replication).
_LIBPQ: Final = (
    *_ONE_OF,
    *_NUMBERS,
    *("host", "hostaddr", "port", "user", "password", "passfile", "service", "options", "application_name"),
    *("fallback_application_name", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir"),
    *("requirepeer", "require_auth", "ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
    *("min_protocol_version", "max_protocol_version", "sslkeylogfile", "scram_client_key", "scram_server_key"),
    *("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
)
_FILES: Final = {
    "postgresql": ("sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir"),
    "mysql": ("ssl_ca", "ssl_cert", "ssl_key"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A database: a SQLite file (``None``: in memory), or one on a server, which ``str()`` names without secrets.

    Several hosts are separated by commas, and so are their ``ports``.
    """

    dialect: Literal["sqlite", "postgresql", "mysql"]
    path: str | None = None
    host: str = ""
    port: int = 0
    ports: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        if self.dialect == "sqlite":
            return self.path or "the database in memory"
        ports = self.ports.split(",") if self.ports else [str(self.port)]
        hosts = zip(self.host.split(","), ports, strict=True)
        shown = (f"{f'[{host}]' if ':' in host else host or 'the local socket'}:{port}" for host, port in hosts)
        return f"{_NAMES[self.dialect]} at {','.join(shown)}, database {self.database!r}"


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
    """Parse a connection string.

    Raises:
        ConfigurationError: it is invalid; the message never shows a possible password.
    """
    scheme, found, rest = connection_string.partition("://")
    dialect = SCHEMES.get(scheme.lower()) if found else None
    if dialect is None:
        raise ConfigurationError(f"connection_string: {_not_known(scheme if found else None)}")
    if dialect == "sqlite":
        return Target(dialect, path=_path(rest))
    return _on_server(dialect, rest)


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


def _on_server(dialect: Literal["postgresql", "mysql"], rest: str) -> Target:
    try:
        if "#" in rest:
            raise ValueError
        place, _, query = rest.partition("?")
        place, _, database = place.partition("/")
        login, has_login, place = place.rpartition("@")
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        found = [_HOST.fullmatch(one) for one in place.split(",")]
        if not all(found) or (dialect == "mysql" and len(found) > 1):
            raise ValueError
        hosts = [(one["v6"] or unquote(one["name"] or ""), int(one["port"] or _PORTS[dialect])) for one in found if one]
        if any(not 0 < port < 65536 for _, port in hosts):
            raise ValueError
    except ValueError:
        # A seeming port may be the rest of a password.
        raise ConfigurationError(
            f"connection_string: what follows {dialect}:// is not user:password@host:port/database?options; {_ESCAPES}"
        ) from None
    if not database:
        raise ConfigurationError("connection_string: the name of the database is missing: …@host/database")
    check_options(dialect, options)
    user, has_password, password = login.partition(":")
    return Target(
        dialect,
        host=",".join(host for host, _ in hosts),
        port=hosts[0][1],
        ports=",".join(str(port) for _, port in hosts) if len(hosts) > 1 else "",
        user=unquote(user) if has_login else None,
        password=unquote(password) if has_password else None,
        database=unquote(database),
        options=options,
    )


def check_options(dialect: Literal["postgresql", "mysql"], options: dict[str, str]) -> None:
    """Raise if the driver would refuse or misread an option; remove redundant ones.

    Raises:
        ConfigurationError: an option is unknown or has an invalid value; the message shows no value.
    """
    if dialect == "mysql":
        if options.pop("charset", "utf8mb4").lower() not in _CHARSETS:
            raise ConfigurationError("connection_string: charset must be utf8mb4: text is always stored as UTF-8")
        known: tuple[str, ...] = _MYSQL
    else:
        if options.pop("client_encoding", "utf8").lower().replace("-", "") != "utf8":
            raise ConfigurationError("connection_string: client_encoding must be UTF8: text is always stored as UTF-8")
        known = _LIBPQ
    for name, value in options.items():
        if name not in known:
            raise ConfigurationError(
                f"connection_string: the option {name!r} is not known; known are {', '.join(sorted(known))}"
            )
        if what := _wrong(name, value):
            raise ConfigurationError(f"connection_string: the option {name} must be {what}")


def _wrong(name: str, value: str) -> str | None:
    if (name in _NUMBERS and not value.isascii()) or (name in _NUMBERS and not value.isdigit()):
        return "a whole number"
    if name in _ONE_OF and value not in _ONE_OF[name]:
        return f"one of {', '.join(_ONE_OF[name])}"
    if name.startswith("ssl_verify_") and value.lower() not in _SWITCHES:
        return f"one of {', '.join(_SWITCHES)}"
    return None


def check_files(dialect: str, options: Mapping[str, str], exists: Callable[[str], bool] = os.path.exists) -> None:
    """Raise if a file that an option names is missing, before a driver retries to read it.

    Raises:
        ConfigurationError: a file is missing.
    """
    for name in _FILES.get(dialect, ()):
        path = options.get(name)
        # libpq's name for the certificates of the system.
        if path and not (name == "sslrootcert" and path == "system") and not exists(path):
            raise ConfigurationError(f"connection_string: the file that {name} names does not exist: {path}")
