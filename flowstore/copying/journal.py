"""How far a copy has come, in a file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from flowstore.copying.newfile import appearing
from flowstore.copying.outcome import CopyResult, OnConflict
from flowstore.record import Query


class Journal:
    """Remember the page that a copy has reached.

    Args:
        path: the file; replaced as a whole each time.
        query, on_conflict: what the copy is about: a journal of another one is refused.
    """

    def __init__(self, path: str | os.PathLike[str], query: Query, on_conflict: OnConflict) -> None:
        self._path = os.fspath(path)
        self._about = json.loads(json.dumps({"query": asdict(query), "on_conflict": on_conflict}))

    def read(self) -> tuple[str | None, CopyResult]:
        """Return the cursor to go on with, and the numbers so far.

        Raises:
            ValueError: the file is no journal, or that of another copy.
        """
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            about, cursor, result = found["about"], found["cursor"], CopyResult(**found["result"])
        except FileNotFoundError:
            return None, CopyResult()
        except (ValueError, KeyError, TypeError) as exc:
            raise ValueError(f"{self._path} is no journal of a copy: delete it, or name another file") from exc
        if about != self._about:
            raise ValueError(f"{self._path} belongs to a copy of other records: delete it, or name another file")
        return cursor, result

    def write(self, cursor: str, result: CopyResult) -> None:
        """Remember a page whose records have all been dealt with."""
        with appearing(self._path) as file:
            file.write(json.dumps({"about": self._about, "cursor": cursor, "result": asdict(result)}).encode())

    def remove(self) -> None:
        """Forget the copy, which has ended."""
        if os.path.exists(self._path):
            os.remove(self._path)
