"""Empty a folder of records, damaged ones too."""

from __future__ import annotations

import os
from contextlib import suppress

from flowstore.record import PIECE
from flowstore.storages.shared.names import KIND, NAME, SHARD, Place

from .folder import Folder


def purge(folder: Folder, durable: bool) -> int:
    """Delete all files of records, and what points to them; return how many, without pieces. Other files stay."""
    deleted = 0
    for kind in filter(KIND.fullmatch, folder.names("records")):
        for shard in filter(SHARD.fullmatch, folder.names("records", kind)):
            names = [name for name in folder.names("records", kind, shard) if NAME.fullmatch(name)]
            if names:
                count = _remove_all(folder, Place(kind, names[0]), names, durable)
                deleted += count if kind != PIECE else 0
    folder.sweep_runs()
    return deleted


def _remove_all(folder: Folder, place: Place, names: list[str], durable: bool) -> int:
    """Delete files of one shard, waiting once until that would survive a loss of power."""
    deleted = 0
    with folder.lock(place) as shard:
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=shard)
                deleted += 1
        if durable:
            os.fsync(shard)
    return deleted
