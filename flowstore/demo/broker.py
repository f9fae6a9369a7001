"""Kombu's file-system broker with atomic message files."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A channel that writes a message to a temporary file and renames it.

    Kombu's channel writes it in place, where a worker may read it while it is empty.
    """

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}"
        partial = folder / f"{name}.partial"
        partial.write_text(dumps(payload), encoding="utf-8")
        os.replace(partial, folder / f"{name}.{queue}.msg")


class Transport(filesystem.Transport):
    """The file-system transport with this channel."""

    Channel = Channel
