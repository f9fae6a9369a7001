"""MemoryStorage next to a dictionary: there is no driver, so that all that is seen is flowstore's own work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from benchmarks.adapters.contenders import CELERY, OURS, RAW, CelerysOwn, Contender, Ours, Subject, closing


class _Dictionary(Contender):
    batches = False

    def __init__(self) -> None:
        self._payloads: dict[str, bytes] = {}

    def store(self, task_id: str, value: Any) -> None:
        self._payloads[task_id] = orjson.dumps(value)

    def retrieve(self, task_id: str) -> Any:
        return orjson.loads(self._payloads[task_id])


@contextmanager
def subject() -> Iterator[Subject]:
    """Yield the contenders."""
    contenders = {
        OURS: Ours("MemoryStorage", {}),
        RAW: _Dictionary(),
        CELERY: CelerysOwn("cache+memory://"),
    }
    notes = ["The raw driver is a dictionary: the ratio says nothing, the microseconds are flowstore's own work."]
    with closing(Subject("memory", "none", contenders, notes)) as made:
        yield made
