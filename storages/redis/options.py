"""The arguments of ``RedisStorage``, checked without the driver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from flowstore.errors import ConfigurationError

_DATABASE: Final = re.compile("/?[0-9]{0,9}")

_TLS: Final = ("ca_certs", "ca_data", "ca_path", "certfile", "cert_reqs", "check_hostname", "keyfile", "password")
_TLS_OF_URLS: Final = frozenset(("db", *(f"ssl_{name}" for name in _TLS)))
_CERT_REQS: Final = ("required", "optional", "none")

Unsafe = Literal["warn", "refuse", "ignore"]


@dataclass(frozen=True, slots=True)
class Options:
    """What ``RedisStorage`` was configured with; ``repr`` shows no secret."""

    host: str
    port: int
    db: int
    username: str | None
    password: str | None = field(repr=False)
    url: str | None = field(repr=False)
    unix_socket_path: str | None
    ssl: bool
    ssl_ca_certs: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_cert_reqs: Literal["required", "optional", "none"]
    ssl_check_hostname: bool
    sentinels: tuple[tuple[str, int], ...]
    service_name: str | None
    sentinel_username: str | None
    sentinel_password: str | None = field(repr=False)
    cluster: bool
    prefix: str
    timeout: float
    connect_timeout: float
    unsafe_settings: Unsafe

    def describe(self) -> str:
        """Return what these lead to, without secrets."""
        kind = "Redis Cluster" if self.cluster else "Redis"
        if self.sentinels:
            known = ", ".join(f"{host}:{port}" for host, port in self.sentinels)
            return f"{kind}, the primary of {self.service_name!r} by the Sentinels at {known}, database {self.db}"
        if self.unix_socket_path is not None:
            return f"{kind} at {self.unix_socket_path}, database {self.db}"
        if self.url is None:
            return f"{kind} at {self.host}:{self.port}, database {self.db}"
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return f"{kind} at {parts.path}"
        place = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
        return f"{kind} at {place}, database {parts.path.strip('/') or self.db}"

    def check(self) -> None:
        """Raise if an argument contradicts another one, or can't be used.

        Raises:
            ConfigurationError: arguments contradict each other.
            ValueError: an argument has a value that is not allowed.
        """
        if not self.prefix or not self.prefix.isprintable() or "{" in self.prefix or "}" in self.prefix:
            raise ValueError(f"prefix must be printable text without braces, not {self.prefix!r}")
        for name in ("timeout", "connect_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be a number of seconds above 0, not {getattr(self, name)!r}")
        if self.db < 0:
            raise ValueError(f"db must be 0 or more, not {self.db!r}")
        if self.unsafe_settings not in ("warn", "refuse", "ignore"):
            raise ValueError(f"unsafe_settings must be warn, refuse or ignore, not {self.unsafe_settings!r}")
        if self.ssl_cert_reqs not in _CERT_REQS:
            raise ValueError(f"ssl_cert_reqs must be required, optional or none, not {self.ssl_cert_reqs!r}")
        self._check_place()

    def _check_place(self) -> None:
        places = {
            "url": self.url is not None,
            "unix_socket_path": self.unix_socket_path is not None,
            "sentinels": bool(self.sentinels),
            "host and port": (self.host, self.port) != ("localhost", 6379),
        }
        given = [name for name, is_given in places.items() if is_given]
        if len(given) > 1:
            raise ConfigurationError(f"{' and '.join(given)} name different places: give one of them")
        if bool(self.sentinels) != (self.service_name is not None):
            raise ConfigurationError("sentinels and service_name belong together: give both or none")
        if self.url is not None:
            _check_url(self.url)
        if self.cluster:
            if self.sentinels or self.unix_socket_path or (self.url or "").startswith("unix"):
                raise ConfigurationError("cluster: the servers of a cluster are found by host and port, or by url")
            if self.db:
                raise ConfigurationError(
                    "cluster: a cluster has the database 0 only; tell apart by prefix instead of db"
                )


def _check_url(url: str) -> None:
    # The rest of the string may hold a password: it stays out of the messages.
    try:
        parts = urlsplit(url)
        scheme, path, _ = parts.scheme, parts.path, parts.port
        options = dict(parse_qsl(parts.query))
    except ValueError:
        raise ConfigurationError("url: not a URL; its port must be a number below 65536") from None
    if scheme not in ("redis", "rediss", "unix"):
        raise ConfigurationError(
            f"url: {scheme!r} is not supported; give redis://host:port/db, rediss://… or unix:///path"
        )
    if scheme != "unix" and not _DATABASE.fullmatch(path):
        raise ConfigurationError("url: what follows the port must be the number of a database")
    other = sorted(name for name in options if name not in (_TLS_OF_URLS if scheme == "rediss" else ("db",)))
    if other:
        hint = "TLS needs rediss://" if _TLS_OF_URLS.issuperset(other) else "use the arguments"
        raise ConfigurationError(f"url: {', '.join(other)} can't be given after '?'; {hint}")
    if "ssl_cert_reqs" in options:
        cert_reqs(options["ssl_cert_reqs"])


def cert_reqs(text: str) -> str:
    """Return ``required``, ``optional`` or ``none``, whatever the notation.

    Raises:
        ConfigurationError: the text is none of them.
    """
    name = text.lower().removeprefix("cert_")
    if name not in _CERT_REQS:
        raise ConfigurationError(f"url: ssl_cert_reqs must be required, optional or none, not {text!r}")
    return name


def sentinel_addresses(sentinels: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Return the addresses in ``host``, ``host:port`` or ``[ipv6]:port``.

    Raises:
        ConfigurationError: one of them is something else.
    """
    found = []
    for text in sentinels:
        try:
            parts = urlsplit(f"//{text}")
            host, port, is_more = parts.hostname, parts.port, parts.path or parts.username is not None
        except ValueError:
            host, port, is_more = None, None, False
        if not host or is_more:
            raise ConfigurationError("sentinels: each must be host or host:port")
        found.append((host, port or 26379))
    return tuple(found)
