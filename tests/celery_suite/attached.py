"""The store that is attached to the apps of Celery's own tests: SQLite, in the folder that the environment names."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Final

from flowstore import FlowStore

FOLDER: Final = "CELERY_SUITE_STORE"
"""The environment variable with the folder of the database; without it nothing is attached."""


def attach(app: Any) -> None:
    """Attach a store of the default settings to an app."""
    _store().attach(app)


@functools.cache
def _store() -> FlowStore:
    url = f"sqlite:///{Path(os.environ[FOLDER], 'results.db')}"
    return FlowStore(
        {
            "storages": [
                {"name": "Results", "classname": "SqlStorage", "configuration": {"connection_string": url}},
            ],
            "global": {"default_storage": "Results"},
        }
    )
