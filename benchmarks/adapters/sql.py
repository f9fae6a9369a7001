"""What the three databases of SqlStorage have in common."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from benchmarks.adapters.contenders import FLOW, KIND, TASK

TABLE: Final = "flowstore_records"
RAW_TABLE: Final = "bench_raw"
"""A copy of flowstore's table, with the same columns and indexes."""

COLUMNS: Final = "address, kind, flow_name, task_name, task_id, name, stored_at, headers, value"


def row(task_id: str, value: Any) -> tuple[Any, ...]:
    """Return the values of ``COLUMNS``."""
    return (
        address(task_id),
        KIND,
        FLOW,
        TASK,
        task_id,
        "",
        time.time(),
        "{}",
        orjson.dumps(value).decode(),
    )


def rows(items: Sequence[tuple[str, Any]]) -> list[tuple[Any, ...]]:
    return [row(task_id, value) for task_id, value in items]


def address(task_id: str) -> bytes:
    return sha256(task_id.encode()).digest()
