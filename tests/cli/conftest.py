from __future__ import annotations

from pathlib import Path

import pytest

from flowstore import FlowStore
from tests.cli.helpers import CONFIGURATION, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "flowstore.yaml").write_text(CONFIGURATION, encoding="utf-8")
    return Place(tmp_path)


@pytest.fixture
def store(place: Place, monkeypatch: pytest.MonkeyPatch) -> FlowStore:
    monkeypatch.setenv("DATA_DIR", str(place.path))
    return FlowStore(place.path / "flowstore.yaml")
