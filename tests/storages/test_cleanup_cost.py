"""What a cleanup asks of a database: a few statements for each page, whatever it finds there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowstore import FlowStore, Key, Query, Ref
from flowstore.storages import SqlStorage
from flowstore.storages.sql.database import Database


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    execute = Database.execute

    def counted(self: Database, work: Any, sql: str, **more: Any) -> Any:
        made.append(sql)
        return execute(self, work, sql, **more)

    monkeypatch.setattr(Database, "execute", counted)
    return made


def opened(tmp_path: Path, name: str, **entry: Any) -> tuple[FlowStore, SqlStorage]:
    configuration = {"connection_string": f"sqlite:///{tmp_path}/{name}.db", "synchronous": "NORMAL"}
    storage = {"name": "S", "classname": "SqlStorage", **entry, "configuration": configuration}
    store = FlowStore({"storages": [storage], "global": {"default_storage": "S"}})
    opened = store.storage("S")
    assert isinstance(opened, SqlStorage)
    return store, opened


def test_large_values_are_not_looked_at_one_by_one(tmp_path: Path, statements: list[str]) -> None:
    store, _ = opened(tmp_path, "large", blob_threshold=1000)
    for number in range(300):
        store.store("f", "t", str(number), "x" * 2000)
    for days in (0, 3):
        # Also where all of them are older than what is left alone.
        with store.storage("S")._connection()._borrow()[0].connection as connection:  # type: ignore[attr-defined]
            connection.execute("UPDATE flowstore_records SET stored_at = stored_at - ?", (days * 86400,))
        statements.clear()
        assert store.cleanup() == 0
        assert len(statements) < 20
    assert store.retrieve("f", "t", "299") == "x" * 2000
    store.close()


def test_runs_in_progress_are_found_together(tmp_path: Path, statements: list[str]) -> None:
    store, storage = opened(tmp_path, "runs")
    old, encode = storage.now() - 1000, storage.pipeline.encode
    for age, name in ((old, "old"), (storage.now(), "new")):
        facts = {"stored_at": age}
        storage.put_many(
            [
                encode(Ref("result", Key("f", "t", f"{name} {n}")), n, {"run_id": f"run {n}", **facts})
                for n in range(400)
            ]
        )
    storage.put(encode(Ref("result", Key("f", "t", "alone")), 1, {"run_id": "another", "stored_at": old}))
    statements.clear()
    assert store.cleanup(500) == 1
    assert len(statements) < 20
    assert storage.count(Query()) == 800
    store.close()


def test_the_expired_come_in_the_order_of_an_index(tmp_path: Path) -> None:
    """Sorting all of them for each page would take the longer, the more there are."""
    store, storage = opened(tmp_path, "expired")
    database = storage._connection()
    for after in (None, (1.0, 1)):
        sql, values = database.sql.expired(Query(expired_at=2.0), after, 500)
        plan = " ".join(str(row) for row in database.rows(f"EXPLAIN QUERY PLAN {sql}", values))
        assert "flowstore_records_expiry" in plan
        assert "TEMP B-TREE" not in plan
    store.close()


def test_of_any_number_that_expire_at_one_moment_all_go(tmp_path: Path) -> None:
    store, storage = opened(tmp_path, "moment")
    encode = storage.pipeline.encode
    storage.put_many([encode(Ref("result", Key("f", "t", str(n))), n, {"expires_at": 2.5}) for n in range(1203)])
    kept = storage.cleanup(batch=100, keep=lambda head: head.key.task_id.endswith("7"))
    assert kept == 1203 - storage.count(Query(expired_at=storage.now()))
    assert storage.count(Query(expired_at=storage.now())) == 120
    store.close()
