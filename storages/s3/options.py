"""The arguments of ``S3Storage``, checked without the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from flowstore.errors import ConfigurationError

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_PREFIX_LIMIT: Final = 700
_REGION: Final = re.compile(r"(?=.*[A-Za-z-])[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?|[0-9a-fA-F:.]+")


@dataclass(frozen=True, slots=True)
class Options:
    """What ``S3Storage`` was configured with; ``repr`` shows no secret."""

    bucket: str
    prefix: str
    region: str | None
    endpoint_url: str | None
    use_ssl: bool
    verify: bool | str
    aws_access_key_id: str | None = field(repr=False)
    aws_secret_access_key: str | None = field(repr=False)
    aws_session_token: str | None = field(repr=False)
    profile: str | None = field(repr=False)
    connect_timeout: float
    read_timeout: float
    addressing_style: Literal["auto", "path", "virtual"]
    encryption: Literal["AES256", "aws:kms"] | None
    kms_key_id: str | None
    versioned: bool
    create_bucket: bool

    @property
    def where(self) -> str:
        """What messages call the bucket."""
        return f"the bucket {self.bucket!r} at {self.endpoint_url or 'AWS'}"

    def describe(self) -> str:
        """Return what these lead to, without secrets."""
        where = "" if self.endpoint_url is None else f" at {self.endpoint_url.rpartition('://')[2].rpartition('@')[2]}"
        return f"S3{where}, bucket {self.bucket!r}, prefix {self.prefix!r}"

    def check(self) -> None:
        """Raise ConfigurationError if arguments contradict or can't be used."""
        if not _BUCKET.fullmatch(self.bucket):
            raise ConfigurationError(f"bucket: {self.bucket!r} can't be the name of a bucket")
        _check_prefix(self.prefix)
        if self.encryption not in (None, "AES256", "aws:kms"):
            raise ConfigurationError(f"encryption must be AES256 or aws:kms, not {self.encryption!r}")
        if self.kms_key_id is not None and self.encryption != "aws:kms":
            raise ConfigurationError("kms_key_id is for encryption: aws:kms")
        if self.addressing_style not in ("auto", "path", "virtual"):
            raise ConfigurationError(f"addressing_style must be auto, path or virtual, not {self.addressing_style!r}")
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ConfigurationError("aws_access_key_id and aws_secret_access_key belong together: one is missing")
        for name in ("connect_timeout", "read_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be a number of seconds above 0, not {getattr(self, name)!r}")


def one_of(**given: str | None) -> str | None:
    """Return the argument that is given, of several names for the same.

    Raises:
        ConfigurationError: several are given.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ConfigurationError(f"{' and '.join(names)} are the same: give one of them")
    return given[names[0]] if names else None


def _check_prefix(prefix: str) -> None:
    """Raise ConfigurationError for a prefix that stores change or refuse.

    A store on a file system drops a leading slash and empty parts, and resolves dots: records could be read, but never
    listed, counted or deleted.
    """
    try:
        size = len(prefix.encode())
    except UnicodeEncodeError:
        raise ConfigurationError("prefix: must be text that UTF-8 can encode") from None
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
    """Return a region; None if it is empty.

    Raises:
        ConfigurationError: it can't be the name of a region.
    """
    if region and not _REGION.fullmatch(region):
        raise ConfigurationError(f"location: {region!r} can't be the name of a region")
    return region or None


def endpoint_of(endpoint: str | None, use_ssl: bool) -> str | None:
    """Return the URL of a store, with a scheme.

    Raises:
        ConfigurationError: it is not a URL of a host.
    """
    if not endpoint:
        return None
    scheme, found, rest = endpoint.partition("://")
    if not found:
        scheme, rest = "https" if use_ssl else "http", endpoint
    if "@" in rest:
        # It may hold a password, which must not be shown.
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
