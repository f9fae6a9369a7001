"""Kinds of records, and which of them survive ``clear``."""

from __future__ import annotations

from typing import Final

from flowstore.errors import InvalidKeyError
from flowstore.record.keys import check_text

RESULT: Final = "result"
ERROR: Final = "error"
RUN: Final = "run"
CHECKPOINT: Final = "checkpoint"
VARIABLE: Final = "variable"
CONFIGURATION: Final = "configuration"
HISTORY: Final = "history"
BLOB: Final = "blob"
PIECE: Final = "piece"
CLAIM: Final = "claim"

_survives_clear: dict[str, bool] = {
    RESULT: False,
    ERROR: False,
    RUN: False,
    CHECKPOINT: False,
    BLOB: False,
    PIECE: False,
    CLAIM: False,
    VARIABLE: True,
    CONFIGURATION: True,
    HISTORY: True,
}


def register_kind(name: str, *, survives_clear: bool = False) -> str:
    """Register a kind of record and return its name.

    Kinds that aren't registered can be used too; ``clear`` deletes their records. Registering a kind twice in the same
    way changes nothing. Call this on import, in every process that clears or cleans up.

    Args:
        survives_clear: whether ``clear`` keeps records of this kind.

    Raises:
        InvalidKeyError: the name is not a string, or is empty.
        ValueError: the kind is already registered with the other ``survives_clear``.
    """
    check_text(name, "kind")
    if not name:
        raise InvalidKeyError("a kind needs a name")
    if _survives_clear.setdefault(name, survives_clear) != survives_clear:
        does = "keeps" if not survives_clear else "deletes"
        raise ValueError(f"the kind {name!r} is already registered, and clear() {does} it")
    return name


def known_kinds() -> tuple[str, ...]:
    """Return flowstore's kinds and those registered in this process."""
    return tuple(_survives_clear)


def survives_clear(kind: str) -> bool:
    """Return whether ``clear`` keeps records of this kind.

    A cleanup by age that names no kinds keeps them too.
    """
    return _survives_clear.get(kind, False)
