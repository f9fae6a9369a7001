"""Resume files: how far a copy has come."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from flowstore.copying.atomic import atomic_write
from flowstore.copying.results import CopyResult, OnConflict
from flowstore.record import Query


class ResumeFile:
    """The page that a copy has reached, saved in a file.

    Args:
        path: the file; each write replaces it atomically.
        query, on_conflict: arguments of the copy; the file of another copy is refused.
    """

    def __init__(self, path: str | os.PathLike[str], query: Query, on_conflict: OnConflict) -> None:
        self._path = os.fspath(path)
        self._about = json.loads(json.dumps({"query": asdict(query), "on_conflict": on_conflict}))

    def read(self) -> tuple[str | None, CopyResult]:
        """Return the cursor to continue with, and the counts so far.

        Raises:
            ValueError: the file is not a resume file, or belongs to another copy.
        """
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            about, cursor, result = found["about"], found["cursor"], CopyResult(**found["result"])
        except FileNotFoundError:
            return None, CopyResult()
        except (ValueError, KeyError, TypeError) as exc:
            raise ValueError(f"{self._path} is not a resume file of a copy: delete it, or use another file") from exc
        if about != self._about:
            raise ValueError(f"{self._path} belongs to a copy of other records: delete it, or use another file")
        return cursor, result

    def write(self, cursor: str, result: CopyResult) -> None:
        """Save the cursor after a page is complete."""
        with atomic_write(self._path) as file:
            file.write(json.dumps({"about": self._about, "cursor": cursor, "result": asdict(result)}).encode())

    def remove(self) -> None:
        """Delete the file, after the copy has ended."""
        if os.path.exists(self._path):
            os.remove(self._path)
