"""The worker's app: ``celery -A flowstore.demo.worker worker``."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from celery.signals import worker_ready

from flowstore.demo.app import create_app
from flowstore.demo.process import FOLDER_VARIABLE, READY

_folder = Path(os.environ[FOLDER_VARIABLE])
app, _ = create_app(_folder)


def _announce(**_: Any) -> None:
    threading.Thread(target=_end_with_parent, args=(os.getpid(),), daemon=True).start()
    partial = _folder / f"{READY}.partial"
    partial.write_text(str(os.getpid()), encoding="utf-8")
    partial.rename(_folder / READY)


def _end_with_parent(pid: int) -> None:
    """End the worker when stdin closes, which the demo holds open."""
    os.read(0, 1)
    os.kill(pid, signal.SIGTERM)


worker_ready.connect(_announce, weak=False)
