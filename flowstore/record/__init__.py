"""What is stored: keys, references, records and queries."""

from __future__ import annotations

from flowstore.record.keys import Key, Ref, SortKey
from flowstore.record.kinds import (
    BLOB,
    CHECKPOINT,
    CLAIM,
    CONFIGURATION,
    ERROR,
    HISTORY,
    PIECE,
    RESULT,
    RUN,
    VARIABLE,
    known_kinds,
    register_kind,
    survives_clear,
)
from flowstore.record.query import Damaged, Page, Query, pages
from flowstore.record.record import FORMAT, JSON, Record

__all__ = [
    "BLOB",
    "CHECKPOINT",
    "CLAIM",
    "CONFIGURATION",
    "ERROR",
    "FORMAT",
    "HISTORY",
    "JSON",
    "PIECE",
    "RESULT",
    "RUN",
    "VARIABLE",
    "Damaged",
    "Key",
    "Page",
    "Query",
    "Record",
    "Ref",
    "SortKey",
    "known_kinds",
    "pages",
    "register_kind",
    "survives_clear",
]
