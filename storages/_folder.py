"""A folder of records: where each file is, and how files come and go without being seen half done."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import orjson

from flowstore.errors import CorruptError, StorageError, UnreachableError
from flowstore.record import Key, Query, Ref

_FORMAT: Final = 1
_MARKER: Final = "flowstore.json"
_ABOUT: Final = "records of flowstore, one file each; see FileStorage in its documentation"
_FOLDERS: Final = ("records", "runs", "blobs", "tmp")
_NEW: Final = ".flowstore-"
_STALE: Final = 3600.0

_PLAIN_KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,59}")
NAME: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}")
"""What the name of a record's file is like."""

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record's file is: ``records/<kind>/<the name's first two digits>/<name>``.

    The name begins with a hash of the key, so that all that is stored under a key is found together. No part of a key
    is part of a path.
    """

    kind: str
    name: str

    @classmethod
    def of(cls, ref: Ref) -> Place:
        return cls(kind_folder(ref.kind), f"{key_hash(ref.key)}-{ref.address.hex()}")

    @property
    def shard(self) -> str:
        return self.name[:2]


def kind_folder(kind: str) -> str:
    """Return the name of a kind's folder: the kind where that is safe, else its hash, which begins otherwise."""
    return kind if _PLAIN_KIND.fullmatch(kind) else "0" + hashlib.sha256(kind.encode()).hexdigest()


def key_hash(key: Key) -> str:
    return Ref("", key).address.hex()[:16]


def key_hashes(query: Query) -> set[str] | None:
    """Return the hashes of the only keys that a query can select, or ``None`` where it names none in full."""
    task_ids = query.task_ids if query.task_id is None else (query.task_id,)
    if query.flow_name is None or query.task_name is None or task_ids is None:
        return None
    return {key_hash(Key(query.flow_name, query.task_name, task_id)) for task_id in task_ids}


class Folder:
    """The files and folders below a root, with or without waiting until they would survive a loss of power."""

    def __init__(self, root: str, durable: bool) -> None:
        self._root = root
        self._durable = durable

    def path(self, place: Place) -> str:
        return f"{self._root}/records/{place.kind}/{place.shard}/{place.name}"

    def prepare(self) -> None:
        """Create what is missing, and remove what writers that died have left.

        Raises:
            StorageError: the folder holds other things; they are left alone.
            CorruptError: the folder is damaged, or was written by a newer version.
            UnreachableError: there is no folder to create it in.
        """
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
        # Several processes may be here at once: each puts the same marker in its place.
        foreign = [name for name in os.listdir(self._root) if not name.startswith(_NEW)]
        if self._is_marked():
            return
        if foreign:
            raise StorageError(
                f"{self._root} is not empty and no folder of flowstore (it holds {min(foreign)!r}); it was left alone"
            )
        marker = orjson.dumps({"format": _FORMAT, "about": _ABOUT}, option=orjson.OPT_APPEND_NEWLINE)
        self._write(f"{self._root}/{_NEW}{secrets.token_hex(8)}", f"{self._root}/{_MARKER}", marker)

    def _sweep(self) -> None:
        before = time.time() - _STALE
        with os.scandir(f"{self._root}/tmp") as entries:
            for entry in entries:
                # Another process may be sweeping too.
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)

    def holds(self, place: Place) -> bool:
        """Tell whether there is a file in that place, whatever it is."""
        return os.path.lexists(self.path(place))

    @contextmanager
    def lock(self, place: Place) -> Iterator[int]:
        """Exclude other writers of the shard, in this and other processes; yield the shard's folder, opened."""
        path = f"{self._root}/records/{place.kind}/{place.shard}"
        try:
            shard = os.open(path, _FOLDER)
        except FileNotFoundError:
            self.make("records", place.kind, place.shard)
            shard = os.open(path, _FOLDER)
        try:
            fcntl.flock(shard, fcntl.LOCK_EX)
            try:
                yield shard
            finally:
                # Closing would not do where a child that was forked meanwhile holds a copy of the descriptor.
                fcntl.flock(shard, fcntl.LOCK_UN)
        finally:
            os.close(shard)

    def replace(self, place: Place, shard: int, *parts: bytes) -> None:
        """Put a file in its place, whole or not at all; the shard has to be locked."""
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

    def remove(self, place: Place, shard: int) -> bool:
        """Delete a file; tell whether there was one. The shard has to be locked."""
        try:
            os.unlink(place.name, dir_fd=shard)
        except FileNotFoundError:
            return False
        if self._durable:
            os.fsync(shard)
        return True

    def point(self, run_id: str, place: Place) -> None:
        """Note that a record belongs to a run; its file has to be there."""
        run = _run_folder(run_id)
        while True:
            try:
                os.close(os.open(f"{self._root}/runs/{run}/{place.kind}.{place.name}", _WRITE, 0o600))
            except FileNotFoundError:
                # Not there yet, or removed by whoever deleted the run's last record right now.
                self.make("runs", run)
                continue
            except FileExistsError:
                pass  # written before, by a writer that may have died before it was safe
            break
        self.sync(f"{self._root}/runs/{run}")

    def unpoint(self, run_id: str, place: Place) -> None:
        """Forget that a record belongs to a run; its file has to be there still."""
        run = f"{self._root}/runs/{_run_folder(run_id)}"
        with suppress(FileNotFoundError):
            os.unlink(f"{run}/{place.kind}.{place.name}")
        remove_folder(run)

    def places(self, query: Query) -> Iterator[Place]:
        """Go through the files among which the records are that a query selects.

        Raises:
            CorruptError: there is something else among them.
        """
        kinds = None if query.kinds is None else {kind_folder(kind) for kind in query.kinds}
        if query.run_id is not None:
            yield from self._places_of_run(query.run_id, kinds)
            return
        keys = key_hashes(query)
        for kind in self.names("records") if kinds is None else kinds:
            for shard in self.names("records", kind) if keys is None else {key[:2] for key in keys}:
                for name in self.names("records", kind, shard):
                    if keys is None or name[:16] in keys:
                        yield self._place(kind, name, "records", kind, shard, name)

    def _places_of_run(self, run_id: str, kinds: set[str] | None) -> Iterator[Place]:
        run = _run_folder(run_id)
        for pointer in self.names("runs", run):
            kind, _, name = pointer.partition(".")
            if kinds is None or kind in kinds:
                yield self._place(kind, name, "runs", run, pointer)

    def _place(self, kind: str, name: str, *path: str) -> Place:
        if not NAME.fullmatch(name):
            raise CorruptError(f"{'/'.join((self._root, *path))} is no file of flowstore's")
        return Place(kind, name)

    def names(self, *path: str) -> list[str]:
        """Return the names in a folder below the root, if there is one; without hidden ones."""
        try:
            names = os.listdir("/".join((self._root, *path)))
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(".")]

    def make(self, *path: str) -> None:
        """Create a folder inside one that there is."""
        folder = self._root
        for name in path:
            parent, folder = folder, f"{folder}/{name}"
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                self.sync(parent)

    def sync(self, path: str) -> None:
        """Wait until what has been created in a folder would survive a loss of power."""
        if not self._durable:
            return
        descriptor = os.open(path, _FOLDER)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_folder(path: str) -> None:
    """Delete a folder if it is empty."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _write_all(descriptor: int, parts: Sequence[bytes]) -> None:
    rest = [memoryview(part) for part in parts if part]
    while rest:
        written = os.writev(descriptor, rest)
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][written:]


def _run_folder(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()
