from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flowstore.record import Ref
from flowstore.storages import SqlStorage
from flowstore.testing import StorageTests
from tests.servers import met
from tests.storages.bystanders import Bystander, beside
from tests.storages.sql.sqlite.sqlite_kit import sql
from tests.storages.storage_kit import contents
from tests.storages.storage_races import ProcessRaces, ThreadRaces
from tests.storages.wrecks import Wrecked


class TestSqlite(Wrecked, ProcessRaces, StorageTests):
    storage_class = SqlStorage
    lacks: ClassVar = {"faults": "there is no server; what a file can do is tested elsewhere"}

    @pytest.fixture
    def configuration(self, tmp_path: Path) -> dict[str, Any]:
        met.note("SqlStorage", met.SQLITE)
        return {"connection_string": f"sqlite:///{tmp_path}/records.db"}

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Bystander:
        return beside(("SqlStorage", configuration))

    @pytest.fixture
    def raw_get(self, tmp_path: Path) -> Callable[[Ref], bytes | None]:
        def read(ref: Ref) -> bytes | None:
            statement = "SELECT value, payload FROM flowstore_records WHERE address = ?"
            with closing(sqlite3.connect(tmp_path / "records.db")) as connection:
                for value, payload in connection.execute(statement, [ref.address]):
                    return payload if value is None else value.encode()  # type: ignore[no-any-return]
            return None

        return read


@pytest.mark.each_time("lifecycle", "values", "errors", "records", "revisions", "listing", "expiry", "threads", "fork")
class TestSqliteInMemory(ThreadRaces, StorageTests):
    storage_class = SqlStorage
    waivers: ClassVar = {"test_a_wrong_clock_changes_nothing": "it compares instances, and each has its own records"}

    @pytest.fixture
    def configuration(self) -> dict[str, Any]:
        return {"connection_string": "sqlite://"}


def test_a_relative_path_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = SqlStorage("sqlite:///records.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.connect()
    storage.disconnect()
    assert contents(tmp_path).keys() == {"records.db"}


@pytest.mark.parametrize("name", ["a b.db", "é🍎.db", "100%25.db", "#x.db", "a&mode=memory"])
def test_a_path_may_have_any_name(tmp_path: Path, name: str) -> None:
    storage = sql(tmp_path / name)
    storage.connect()
    storage.store("f", "t", "1", 1)
    storage.disconnect()
    assert contents(tmp_path).keys() == {name}


@pytest.mark.parametrize(("configuration", "level"), [({}, 2), ({"synchronous": "NORMAL"}, 1)])
def test_synchronizes_as_configured(path: Path, configuration: dict[str, Any], level: int) -> None:
    storage = sql(path, **configuration)
    storage.connect()

    def settings() -> list[Any]:
        database = storage._connection()
        return [database.rows(f"PRAGMA {name}")[0][0] for name in ("synchronous", "journal_mode")]

    with ThreadPoolExecutor(1) as pool:
        assert settings() == pool.submit(settings).result() == [level, "wal"]
    storage.disconnect()


def test_echo_shows_statements_without_values(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = sql(path, echo=True)
    with caplog.at_level(logging.INFO, logger="sqlalchemy.engine"):
        storage.connect()
        storage.store("f", "t", "1", "hunter2")
        storage.retrieve("f", "t", "1")
        storage.disconnect()
    assert "INSERT INTO flowstore_records" in caplog.text
    assert "hunter2" not in caplog.text
