"""A folder of records: paths, and writing and deleting files atomically."""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

import orjson

from flowstore.errors import CorruptError, StorageError, UnreachableError
from flowstore.record import PIECE, Query
from flowstore.storages.shared.names import KIND, NAME, SHARD, Location, key_hashes, kind_folder

from .lock import locked
from .pointers import RunPointers

log = logging.getLogger(__name__)

_FORMAT: Final = 1
_MARKER: Final = "flowstore.json"
_ABOUT: Final = "records of flowstore, one file each; see FileStorage in its documentation"
_FOLDERS: Final = ("records", "runs", "blobs", "tmp")
_NEW: Final = ".flowstore-"
_STALE: Final = 3600.0
_MOST_REPORTED: Final = 100

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """The files below a root; if ``durable``, changes wait for the disk."""

    def __init__(self, root: str, durable: bool, timeout: float) -> None:
        self._root = root
        self._durable = durable
        self._timeout = timeout
        self._runs = RunPointers(root, self.make, self.sync, self.names)
        self._prepared: os.stat_result | None = None
        self._reported: set[str] = set()

    def path(self, place: Location) -> str:
        return f"{self._root}/records/{place.kind}/{place.shard}/{place.name}"

    def prepare(self) -> None:
        """Create what is missing; delete temporary files of dead writers.

        Raises:
            StorageError: the folder holds other files; they are left alone.
            CorruptError: the folder is damaged, or was written by a newer version.
            UnreachableError: its parent folder is missing, or the folder in use is gone.
        """
        if self._prepared is not None and not os.path.exists(f"{self._root}/{_MARKER}"):
            # A new empty folder would hide all records: an unmounted disk looks like that.
            raise self._gone()
        parent = os.path.dirname(self._root)
        if not os.path.isdir(parent):
            raise UnreachableError(f"can't create {self._root}: the folder {parent} does not exist")
        with suppress(FileExistsError):
            os.mkdir(self._root, 0o700)
            self.sync(parent)
        if not self._is_marked():
            self._mark()
        for name in _FOLDERS:
            with suppress(FileExistsError):
                os.mkdir(f"{self._root}/{name}", 0o700)
        self.sync(self._root)
        self._sweep()
        status = os.stat(self._root)
        if self._prepared is None and status.st_mode & stat.S_IWOTH:
            log.warning("the folder %s is writable by all users: they can replace what is stored in it", self._root)
        self._prepared = status

    def check(self) -> None:
        """Raise UnreachableError if the folder is not the one that was prepared."""
        try:
            if self._prepared is None or os.path.samestat(os.stat(self._root), self._prepared):
                return
        except OSError:
            pass
        raise self._gone()

    def _gone(self) -> UnreachableError:
        return UnreachableError(
            f"can't use {self._root}: it was deleted or replaced while it was in use; put it back, or restart"
        )

    def _is_marked(self) -> bool:
        try:
            with open(f"{self._root}/{_MARKER}", "rb") as file:
                marker = orjson.loads(file.read())
        except FileNotFoundError:
            return False
        except ValueError as exc:
            raise CorruptError(f"{self._root}/{_MARKER} is damaged: {exc}") from exc
        version = marker.get("format") if type(marker) is dict else None
        if version != _FORMAT:
            raise CorruptError(f"{self._root} has the format {version!r}; this version of flowstore reads {_FORMAT}")
        return True

    def _mark(self) -> None:
        # Several processes may do this at once: each writes the same marker.
        foreign = [name for name in os.listdir(self._root) if not name.startswith(_NEW)]
        if self._is_marked():
            return
        if foreign:
            raise StorageError(
                f"{self._root} is not empty and not flowstore's (it holds {min(foreign)!r}); it was left alone"
            )
        marker = orjson.dumps({"format": _FORMAT, "about": _ABOUT}, option=orjson.OPT_APPEND_NEWLINE)
        self._write(f"{self._root}/{_NEW}{secrets.token_hex(8)}", f"{self._root}/{_MARKER}", marker)

    def _sweep(self) -> None:
        before = time.time() - _STALE
        with os.scandir(f"{self._root}/tmp") as entries:
            for entry in entries:
                # Another process may be sweeping too, or this one may only read.
                with suppress(OSError):
                    if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)

    def holds(self, place: Location) -> bool:
        """Return whether a file is in that place, whatever it is."""
        return os.path.lexists(self.path(place))

    def lock(self, place: Location) -> AbstractContextManager[int]:
        """Lock a shard against other writers; yield its folder's descriptor."""
        path = f"{self._root}/records/{place.kind}/{place.shard}"

        def opened() -> int:
            try:
                return os.open(path, _FOLDER)
            except FileNotFoundError:
                self.make("records", place.kind, place.shard)
                return os.open(path, _FOLDER)

        return locked(path, opened, self._timeout)

    def replace(self, place: Location, shard: int, *parts: bytes) -> None:
        """Write a file, as a whole or not at all; the shard must be locked."""
        temporary = f"{self._root}/tmp/{os.getpid()}-{secrets.token_hex(8)}"
        self._write(temporary, place.name, *parts, folder=shard)

    def _write(self, temporary: str, target: str, *parts: bytes, folder: int | None = None) -> None:
        try:
            descriptor = os.open(temporary, _WRITE, 0o600)
            try:
                _write_all(descriptor, parts)
                if self._durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, target, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        if folder is not None and self._durable:
            os.fsync(folder)

    def remove(self, place: Location, shard: int) -> bool:
        """Delete a file; return whether it existed. The shard must be locked."""
        try:
            os.unlink(place.name, dir_fd=shard)
        except FileNotFoundError:
            return False
        if self._durable:
            os.fsync(shard)
        return True

    def point(self, run_id: str, place: Location) -> None:
        """Add a record to a run, before it is written; its place must be locked."""
        self._runs.add(run_id, place)

    def unpoint(self, run_id: str, place: Location) -> None:
        """Remove a deleted record from a run; its place must be locked."""
        self._runs.remove(run_id, place)

    def sweep_runs(self) -> None:
        """Delete the pointers of runs to missing records."""
        self._runs.sweep(self.holds, self.lock)

    def places(self, query: Query) -> Iterator[Location]:
        """Iterate over the places that a query may select; log other files."""
        kinds = None if query.kinds is None else {kind_folder(kind) for kind in query.kinds}
        if query.run_id is not None:
            for path, place in self._runs.of(query.run_id):
                if place is None:
                    self._report(path)
                elif kinds is None or place.kind in kinds:
                    yield place
            return
        keys = key_hashes(query)
        for kind in self._named(KIND, "records") if kinds is None else kinds:
            for shard in self._named(SHARD, "records", kind) if keys is None else {key[:2] for key in keys}:
                for name in self._named(NAME, "records", kind, shard):
                    if keys is None or name[:16] in keys:
                        yield Location(kind, name)

    def purge(self) -> int:
        """Delete all records, damaged ones too; return how many."""
        deleted = 0
        for kind in filter(KIND.fullmatch, self.names("records")):
            for shard in filter(SHARD.fullmatch, self.names("records", kind)):
                names = [name for name in self.names("records", kind, shard) if NAME.fullmatch(name)]
                if names:
                    count = self._remove_all(Location(kind, names[0]), names)
                    deleted += count if kind != PIECE else 0
        self.sweep_runs()
        return deleted

    def _remove_all(self, place: Location, names: list[str]) -> int:
        deleted = 0
        with self.lock(place) as shard:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=shard)
                    deleted += 1
            if self._durable:
                os.fsync(shard)
        return deleted

    def _named(self, pattern: re.Pattern[str], *path: str) -> Iterator[str]:
        for name in self.names(*path):
            if pattern.fullmatch(name):
                yield name
            else:
                self._report("/".join((self._root, *path, name)))

    def _report(self, path: str) -> None:
        if path not in self._reported and len(self._reported) < _MOST_REPORTED:
            self._reported.add(path)
            log.warning("ignoring %s: not a file of flowstore", path)

    def names(self, *path: str) -> list[str]:
        """Return the names in a folder below the root, without hidden ones."""
        try:
            names = os.listdir("/".join((self._root, *path)))
        except NotADirectoryError:
            self._report("/".join((self._root, *path)))
            return []
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(".")]

    def make(self, *path: str) -> None:
        """Create a folder below the root, and its parents."""
        folder = self._root
        for name in path:
            parent, folder = folder, f"{folder}/{name}"
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                self.sync(parent)

    def sync(self, path: str) -> None:
        """Wait until files created in a folder would survive a loss of power."""
        if not self._durable:
            return
        descriptor = os.open(path, _FOLDER)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, parts: Sequence[bytes]) -> None:
    rest = [memoryview(part) for part in parts if part]
    while rest:
        written = os.writev(descriptor, rest)
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][written:]
