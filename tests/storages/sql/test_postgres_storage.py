from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.errors import UnreachableError
from flowstore.record import Key, Query
from flowstore.storages import SqlStorage
from flowstore.storages.sql.postgres.statements import escape, unescape
from tests.storages.sql.sql_contract import SqlServerContract
from tests.storages.sql.sql_servers import ask
from tests.storages.storage_kit import Recipe, opened, record

pytest_plugins = ("tests.storages.sql.sql_fixtures",)


class TestPostgres(SqlServerContract):
    @pytest.fixture
    def place(self, postgres_recipe: Recipe) -> Recipe:
        return postgres_recipe


@pytest.mark.parametrize("text", ["", "a", "\0", "\x10", "\x01", "\x02", "\x01\0", "\0\x01", "\x01\x01\0\0", "é\0🍎"])
def test_escapes_what_text_can_not_hold(text: str) -> None:
    kept = escape(text)
    assert "\0" not in kept
    assert unescape(kept) == text
    assert (kept == text) == ("\0" not in text and "\x01" not in text)


@given(st.text("\0\x01\x02a"), st.text("\0\x01\x02a"))
def test_escapes_different_texts_differently(one: str, other: str) -> None:
    assert unescape(escape(one)) == one
    assert (escape(one) == escape(other)) == (one == other)
    assert (escape(one) < escape(other)) == (one < other)


def test_a_standby_is_unreachable_for_writes(postgres_recipe: Recipe) -> None:
    with opened(postgres_recipe) as storage:
        storage.store("f", "t", "1", 1)
    string = postgres_recipe[1]["connection_string"] + quote(" -c default_transaction_read_only=on")
    with opened((postgres_recipe[0], {"connection_string": string})) as storage:
        assert storage.retrieve("f", "t", "1") == 1
        for _ in range(2):
            with pytest.raises(UnreachableError, match="is read-only, as a standby is") as caught:
                storage.store("f", "t", "1", 2)
            assert type(caught.value) is UnreachableError
        assert storage.retrieve("f", "t", "1") == 1


def test_large_values_are_not_compressed_slowly(postgres_recipe: Recipe) -> None:
    with opened(postgres_recipe) as storage:
        storage.store("f", "t", "1", "x" * 1_000_000)
    statement = (
        "SELECT attname, attcompression, attstorage FROM pg_attribute WHERE attrelid = 'flowstore_records'::regclass"
    )
    found = {name: (how, where) for name, how, where in ask(postgres_recipe, statement)}
    for column in ("value", "payload"):
        how, where = found[column]
        assert how in ("l", b"l") or where in ("e", b"e")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(run_id="r7"), "flowstore_records_run"),
        (Query(task_ids=("7", "8")), "flowstore_records_task"),
        (Query(flow_name="f", task_name="t", task_id="7"), "flowstore_records_task"),
        (Query(kinds=("run",), flow_name="f"), "flowstore_records_kind"),
        (Query(expired_at=1.0), "flowstore_records_expiry"),
        (Query(pattern="77*"), "flowstore_records_task"),
        (Query(pattern="77?5*x"), "flowstore_records_task"),
        (Query(order="task_id"), "flowstore_records_task"),
    ],
    ids=str,
)
def test_selects_by_index(postgres_recipe: Recipe, query: Query, index: str) -> None:
    with opened(postgres_recipe) as storage:
        storage.put_many([record(Key("f", "t", str(n)), n, run_id=f"r{n}", expires_at=2e9 + n) for n in range(2000)])
        ask(postgres_recipe, "ANALYZE flowstore_records")
        assert isinstance(storage, SqlStorage)
        database = storage._connection()
        statement, values = database.sql.scan(query, None, 10, False)
        plan = "\n".join(line for (line,) in database.rows(f"EXPLAIN {statement}", values))
        assert index in plan, plan
