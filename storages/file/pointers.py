"""The records of each run: an empty file for each record."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Final

from flowstore.storages.shared.names import KIND, NAME, Location

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class RunPointers:
    """The files ``runs/<hash of the run's id>/<kind>.<record's file>``.

    A pointer is written before its record and deleted after it, while the record's place is locked: no record lacks
    its pointer. A stale one, without a record or to a record of another run, is left by a writer that died. It is
    ignored, and the next cleanup deletes it.

    Args:
        make: creates a folder below the root.
        sync: waits until files created in a folder would survive a loss of power.
        names: returns the names in a folder below the root.
    """

    def __init__(
        self,
        root: str,
        make: Callable[..., None],
        sync: Callable[[str], None],
        names: Callable[..., list[str]],
    ) -> None:
        self._root = root
        self._make = make
        self._sync = sync
        self._names = names

    def add(self, run_id: str, place: Location) -> None:
        """Add a record to a run; its place must be locked."""
        run = _folder_of(run_id)
        while True:
            try:
                os.close(os.open(f"{self._root}/runs/{run}/{place.kind}.{place.name}", _WRITE, 0o600))
            except FileNotFoundError:
                # Missing still, or deleted with the run's last record right now.
                self._make("runs", run)
                continue
            except FileExistsError:
                pass  # written before, by a writer that may have died before syncing
            break
        self._sync(f"{self._root}/runs/{run}")

    def remove(self, run_id: str, place: Location) -> None:
        """Remove a record from a run; its place must be locked."""
        self._remove(_folder_of(run_id), f"{place.kind}.{place.name}")

    def of(self, run_id: str) -> Iterator[tuple[str, Location | None]]:
        """Iterate over a run's files: their paths, and their records' places."""
        run = _folder_of(run_id)
        for name in self._names("runs", run):
            yield f"{self._root}/runs/{run}/{name}", _place_of(name)

    def sweep(
        self, holds: Callable[[Location], bool], lock: Callable[[Location], AbstractContextManager[object]]
    ) -> None:
        """Delete stale pointers, and the empty folders of runs."""
        for run in self._names("runs"):
            for name in self._names("runs", run):
                place = _place_of(name)
                if place is not None and not holds(place):
                    with lock(place):
                        # A writer of the record has the lock until both exist.
                        if not holds(place):
                            self._remove(run, name)
            remove_folder(f"{self._root}/runs/{run}")

    def _remove(self, run: str, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self._root}/runs/{run}/{name}")
        remove_folder(f"{self._root}/runs/{run}")


def _folder_of(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()


def _place_of(pointer: str) -> Location | None:
    kind, _, name = pointer.partition(".")
    return Location(kind, name) if KIND.fullmatch(kind) and NAME.fullmatch(name) else None


def remove_folder(path: str) -> None:
    """Delete a folder if it is empty."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # A file of another program is left alone.
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
