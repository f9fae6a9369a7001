"""What may follow the ``?`` of a connection string, found out without loading a driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, Literal

from flowstore.errors import ConfigurationError

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
# As libpq takes them. What flowstore itself decides (client_encoding, replication) is not among them.
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


def check_options(product: Literal["postgresql", "mysql"], options: dict[str, str]) -> None:
    """Refuse what the driver would refuse, or take for something else; take out what says nothing new.

    Raises:
        ConfigurationError: one is not known, or has a wrong value; the message shows no value.
    """
    if product == "mysql":
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


def check_files(product: str, options: Mapping[str, str], exists: Callable[[str], bool] = os.path.exists) -> None:
    """Refuse files that are not there, before a driver tries again and again to read them.

    Raises:
        ConfigurationError: one is missing.
    """
    for name in _FILES.get(product, ()):
        path = options.get(name)
        # libpq's word for the certificates of the system.
        if path and not (name == "sslrootcert" and path == "system") and not exists(path):
            raise ConfigurationError(f"connection_string: the file that {name} names does not exist: {path}")
