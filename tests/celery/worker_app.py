"""What a test's worker loads: the app of the folder that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from tests.celery.flowapp import build

app, store = build(Path(os.environ["FLOWAPP_FOLDER"]))
