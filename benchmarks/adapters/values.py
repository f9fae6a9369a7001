"""What is stored: JSON of about 200 B, 10 KB and 1 MB, as tasks return it."""

from __future__ import annotations

from itertools import count
from typing import Any, Final
from uuid import UUID

_numbers = count(1)


def _rows(number: int) -> list[dict[str, Any]]:
    return [
        {"id": row, "name": f"customer {row}", "score": row * 0.37, "ok": row % 3 == 0, "tags": ["a", "b", "c"]}
        for row in range(number)
    ]


VALUES: Final[dict[str, Any]] = {
    "200 B": {"name": "x" * 100, "numbers": list(range(20)), "ok": True},
    "10 KB": _rows(125),
    "1 MB": _rows(11_700),
}
SMALL: Final = "200 B"
BATCH: Final = 1000


def fresh_ids(number: int) -> list[str]:
    """Return ids of the form that Celery gives, none of them returned before in this process."""
    return [str(UUID(int=next(_numbers) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))) for _ in range(number)]
