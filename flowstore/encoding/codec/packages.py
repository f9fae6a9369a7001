"""The optional packages that serializers and codecs need."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import Final

from flowstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Package:
    """A module to import, and the extra of the flowstore package that installs it."""

    module: str
    extra: str

    def is_installed(self) -> bool:
        return self.module in sys.modules or importlib.util.find_spec(self.module) is not None

    @property
    def hint(self) -> str:
        """What to do where it is missing."""
        return f"Run: pip install 'flowstore[{self.extra}]'"


PACKAGES: Final = {
    "msgpack": Package("msgpack", "msgpack"),
    "zstd": Package("zstandard", "zstd"),
    "aes-256-gcm": Package("cryptography", "crypto"),
}
"""By the name of the serializer or codec that needs it."""


def require(name: str) -> None:
    """Check that a serializer or codec can be used.

    Raises:
        ConfigurationError: its package is not installed; names the extra.
    """
    package = PACKAGES.get(name)
    if package is not None and not package.is_installed():
        raise ConfigurationError(f"{name} needs {package.module}, which is not installed. {package.hint}")
