"""FileStorage next to writing, renaming and reading files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.adapters.contenders import CELERY, OURS, RAW, CelerysOwn, Contender, Ours, Subject, closing


class _Files(Contender):
    """Whole files in one folder; durable ones are waited for, like their names in the folder."""

    batches = False

    def __init__(self, folder: str, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def store(self, task_id: str, value: Any) -> None:
        temporary = f"{self._folder}/.{task_id}"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, orjson.dumps(value))
            if self._durable:
                os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, f"{self._folder}/{task_id}")
        if self._durable:
            os.fsync(self._descriptor)

    def retrieve(self, task_id: str) -> Any:
        with open(f"{self._folder}/{task_id}", "rb") as file:
            return orjson.loads(file.read())

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def _subject(name: str, durable: bool) -> Iterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="flowstore-bench-") as folder:
        for part in ("raw", "celery"):
            Path(folder, part).mkdir()
        contenders = {
            OURS: Ours("FileStorage", {"path": f"{folder}/ours", "durable": durable}),
            RAW: _Files(f"{folder}/raw", durable),
            CELERY: CelerysOwn(f"file://{folder}/celery"),
        }
        notes = ["Celery writes in place and waits for nothing: readers can see half a file, a crash can lose it."]
        with closing(Subject(name, f"the folder {folder}", contenders, notes)) as made:
            yield made


@contextmanager
def durable() -> Iterator[Subject]:
    """Yield the contenders that wait for the disk."""
    with _subject("file", durable=True) as made:
        yield made


@contextmanager
def fast() -> Iterator[Subject]:
    """Yield the contenders that don't."""
    with _subject("file-fast", durable=False) as made:
        yield made
