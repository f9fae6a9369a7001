"""Optional packages of serializers and codecs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import Final

from flowstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Package:
    """A module, and the extra of flowstore that installs it."""

    module: str
    extra: str

    def is_installed(self) -> bool:
        return self.module in sys.modules or importlib.util.find_spec(self.module) is not None

    @property
    def install_hint(self) -> str:
        """How to install it."""
        return f"Run: pip install 'flowstore[{self.extra}]'"


PACKAGES: Final = {
    "msgpack": Package("msgpack", "msgpack"),
    "zstd": Package("zstandard", "zstd"),
    "aes-256-gcm": Package("cryptography", "crypto"),
}
"""By the name of the serializer or codec that needs it."""


def require_package(name: str) -> None:
    """Check that the package of a serializer or codec is installed.

    Raises:
        ConfigurationError: it is not; the message names the extra.
    """
    package = PACKAGES.get(name)
    if package is not None and not package.is_installed():
        raise ConfigurationError(f"{name} needs {package.module}, which is not installed. {package.install_hint}")
