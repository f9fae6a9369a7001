"""The bytes of blobs and large payloads, in files."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Final

from flowstore.errors import NotFoundError
from flowstore.storage import PART, Source
from flowstore.storages.shared.names import KIND, SHARD, Location

from .folder import Folder

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME: Final = re.compile(r"([0-9a-f]{16}-[0-9a-f]{64})\.([0-9a-f]{32})")


class BlobFiles:
    """The files ``blobs/<kind>/<shard>/<record's file>.<generation>``."""

    def __init__(self, root: str, folder: Folder, durable: bool) -> None:
        self._root = root
        self._folder = folder
        self._durable = durable

    def write(self, place: Location, generation: str, source: Source) -> None:
        """Write a file, as a whole or not at all."""
        temporary = f"{self._root}/tmp/{os.getpid()}-{secrets.token_hex(8)}"
        try:
            descriptor = os.open(temporary, _WRITE, 0o600)
            try:
                while part := source.read(PART):
                    rest = memoryview(part)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                if self._durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._folder.make("blobs", place.kind, place.shard)
            path = self._path(place, generation)
            os.rename(temporary, path)
            self._folder.sync(os.path.dirname(path))
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def read(self, place: Location, generation: str) -> Generator[bytes, None, None]:
        """Yield a file's bytes, even if it is deleted in the meantime.

        Raises:
            NotFoundError: the file is missing.
        """
        path = self._path(place, generation)
        try:
            descriptor = os.open(path, _READ)
        except FileNotFoundError as exc:
            raise NotFoundError(f"the file {path} is missing") from exc
        try:
            while part := os.read(descriptor, PART):
                yield part
        finally:
            os.close(descriptor)

    def remove(self, place: Location, generation: str) -> None:
        """Delete a file if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(place, generation))

    def all(self) -> Iterator[tuple[Location, str, float]]:
        """Iterate over all files: the record's place, the generation, the time."""
        # Other files are not flowstore's to delete.
        for kind in filter(KIND.fullmatch, self._folder.names("blobs")):
            for shard in filter(SHARD.fullmatch, self._folder.names("blobs", kind)):
                for name in self._folder.names("blobs", kind, shard):
                    if found := _NAME.fullmatch(name):
                        with suppress(FileNotFoundError):
                            status = os.stat(f"{self._root}/blobs/{kind}/{shard}/{name}", follow_symlinks=False)
                            yield Location(kind, found[1]), found[2], status.st_mtime

    def _path(self, place: Location, generation: str) -> str:
        return f"{self._root}/blobs/{place.kind}/{place.shard}/{place.name}.{generation}"
