"""PostgreSQL and MySQL: what is left after closing, and one damaged value among good ones."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from flowstore.record import Key, Query
from flowstore.storage import RecordStorage
from flowstore.storages import SqlStorage
from tests.storages.sql.sql_servers import ask
from tests.storages.storage_kit import Recipe, make, record

pytest_plugins = ("tests.storages.sql.sql_fixtures",)


def test_closing_leaves_nothing_of_any_thread(recipe: Recipe) -> None:
    storage = make(recipe)
    assert isinstance(storage, SqlStorage)
    stored, end = threading.Barrier(3), threading.Event()
    left: list[weakref.ref[object]] = []

    def work(number: int) -> None:
        storage.store("f", "t", str(number), number)
        stored.wait(60)
        end.wait(60)

    storage.connect()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    storage.store("f", "t", "mine", 1)
    stored.wait(60)
    database = storage._connection()
    left.append(weakref.ref(database))
    left += [weakref.ref(link) for link in database._links]
    assert len(left) >= 4
    del database
    storage.disconnect()
    gc.collect()
    # While the threads live on.
    assert [one() for one in left if one() is not None] == []
    storage.connect()
    end.set()
    for thread in threads:
        thread.join()
    assert storage.retrieve("f", "t", "mine") == 1
    storage.disconnect()


@pytest.mark.parametrize("order", ["stored", "task_id"])
@pytest.mark.parametrize("descending", [False, True])
def test_a_value_that_only_claims_to_be_json_is_passed_over(
    recipe: Recipe, storage: RecordStorage, order: str, descending: bool
) -> None:
    for number in range(500):
        storage.put(record(Key("f", "t", f"{number:03}"), {"a": number % 2, "n": number}))
    storage.put(record(Key("f", "t", "bytes"), b'{"a": 1}', content_type="application/octet-stream"))
    ask(recipe, "UPDATE flowstore_records SET value = '{broken' WHERE task_id IN ('004', '251')")
    wanted = [f"{number:03}" for number in range(500) if number % 2 and number != 251]
    if descending:
        wanted.reverse()
    for flow_name in ("f", None):
        query = Query(flow_name=flow_name, where={"a": 1}, order=order, descending=descending)  # type: ignore[arg-type]
        assert [one.key.task_id for one in storage.records(query)] == wanted
        assert storage.count(query) == len(wanted)
        page = storage.scan(query, limit=7)
        assert [one.key.task_id for one in page.records] == wanted[:7]
        assert page.cursor is not None
        following = storage.scan(query, cursor=page.cursor, limit=7)
        assert [one.key.task_id for one in following.records] == wanted[7:14]
        skipping = Query(flow_name=flow_name, where={"a": 1}, order=order, descending=descending, skip=3)  # type: ignore[arg-type]
        assert storage.scan(skipping, limit=1).records[0].key.task_id == wanted[3]
