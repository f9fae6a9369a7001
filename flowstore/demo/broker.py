"""Kombu's file-system broker, with messages that appear whole."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Write a message beside its place and rename it.

    Kombu's own channel writes it at its place, where a worker may find it while it is still empty.
    """

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        name = f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}"
        partial = folder / f"{name}.partial"
        partial.write_text(dumps(payload), encoding="utf-8")
        os.replace(partial, folder / f"{name}.{queue}.msg")


class Transport(filesystem.Transport):
    """The file-system transport with such channels."""

    Channel = Channel
