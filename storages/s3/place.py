"""Where a bucket is and what its objects are called, checked without the driver."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from flowstore.errors import ConfigurationError

_PREFIX_LIMIT: Final = 700
_REGION: Final = re.compile(r"(?=.*[A-Za-z-])[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?|[0-9a-fA-F:.]+")


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that some stores write otherwise than they list it.

    A store on a file system drops a slash in front and what is between two, and resolves dots: what was stored could be
    read, but was never listed, counted or deleted.

    Raises:
        ConfigurationError: it is one, or it is too long.
    """
    try:
        size = len(prefix.encode())
    except UnicodeEncodeError:
        raise ConfigurationError("prefix: must be text that has a form in UTF-8") from None
    if size > _PREFIX_LIMIT:
        raise ConfigurationError(f"prefix: {size} bytes are too long; {_PREFIX_LIMIT} are the limit")
    if any(ord(character) < 32 or ord(character) == 127 for character in prefix):
        raise ConfigurationError(f"prefix: {prefix!r} has control characters")
    folders = prefix.split("/")[:-1]
    if prefix.startswith("/"):
        raise ConfigurationError(f"prefix: {prefix!r} begins with a slash; write {prefix.lstrip('/')!r}")
    if not {"", ".", ".."}.isdisjoint(folders):
        raise ConfigurationError(f"prefix: {prefix!r} has an empty part, '.' or '..' between its slashes")


def checked_region(region: str | None) -> str | None:
    """Return a region; an empty one counts as none.

    Raises:
        ConfigurationError: it can't be the name of one.
    """
    if region and not _REGION.fullmatch(region):
        raise ConfigurationError(f"location: {region!r} can't be the name of a region")
    return region or None


def endpoint_of(endpoint: str | None, use_ssl: bool) -> str | None:
    """Return the URL of a store, with a scheme.

    Raises:
        ConfigurationError: it is none.
    """
    if not endpoint:
        return None
    scheme, found, rest = endpoint.partition("://")
    if not found:
        scheme, rest = "https" if use_ssl else "http", endpoint
    if "@" in rest:
        # It may hold a password: it stays out of the message.
        raise ConfigurationError("endpoint_url: credentials belong into aws_access_key_id and aws_secret_access_key")
    if scheme not in ("http", "https"):
        raise ConfigurationError(f"endpoint_url: must begin with http:// or https://, not {scheme}://")
    url = f"{scheme}://{rest}"
    if not _names_host(url):
        raise ConfigurationError(f"endpoint_url: {endpoint!r} names no host; write http://host:port")
    return url


def _names_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return bool(_HOST.fullmatch(host)) and not (parts.query or parts.fragment)
