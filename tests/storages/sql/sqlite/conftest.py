"""Fixtures of the tests of SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowstore.storages import SqlStorage
from tests.storages.sql.sqlite.sqlite_kit import sql


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "records.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqlStorage]:
    storage = sql(path)
    storage.connect()
    yield storage
    storage.disconnect()
