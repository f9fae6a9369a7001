"""What stands for an argument that was left out where ``None`` has a meaning of its own."""

from __future__ import annotations

from typing import Any, Final


class Default:
    """An argument that was left out."""

    def __init__(self, meaning: str) -> None:
        self._meaning = meaning

    def __repr__(self) -> str:
        return f"<{self._meaning}>"


RAISE: Final[Any] = Default("raise")
"""In place of a default value: what is missing is an error."""

CONFIGURED: Final[Any] = Default("configured")
"""In place of a setting: what the configuration says."""
