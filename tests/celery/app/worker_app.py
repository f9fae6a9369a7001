"""What a test's worker loads: the app of the folder that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from tests.celery.app.flowapp import build

app, store = build(Path(os.environ["FLOWAPP_FOLDER"]))

for name in os.environ.get("FLOWAPP_CONNECT_EARLY", "").split():
    store.storage(name)
    if name == "Main":
        store.store("early", "echo", "early", "in the parent")
