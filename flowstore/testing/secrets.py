"""Find the secrets in a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

_SECRET: Final = re.compile("pass|secret|token|credential|access_key|api_?key", re.IGNORECASE)


def secrets_in(configuration: Any, name: str = "") -> list[str]:
    """Return the secrets in a configuration: by key, and in URLs."""
    if isinstance(configuration, Mapping):
        return [secret for key, value in configuration.items() for secret in secrets_in(value, str(key))]
    if isinstance(configuration, list):
        return [secret for value in configuration for secret in secrets_in(value, name)]
    if not isinstance(configuration, str) or not configuration:
        return []
    if _SECRET.search(name):
        return [configuration]
    password = urlsplit(configuration).password if "://" in configuration else None
    return [password, unquote(password)] if password else []
