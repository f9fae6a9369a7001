"""Workers that are killed in the middle of flows: what Celery has acknowledged is in the storage."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from typing import Any

import pytest
from celery import chain

from flowstore import Query, RecordStorage
from flowstore.record import RESULT
from tests.celery.conftest import MakeSite
from tests.celery.sites import Site, until

FLOWS, KILLS = 30, 3


def acknowledged(site: Site) -> set[str]:
    """Return the ids of the tasks that Celery's own result backend calls successful."""
    if site.app.conf.result_backend.startswith("redis"):
        backend: Any = site.app.backend
        metas = [backend.client.get(key) for key in backend.client.scan_iter("celery-task-meta-*")]
    else:
        metas = [path.read_bytes() for path in (site.folder / "results").glob("celery-task-meta-*")]
    found = set()
    for text in metas:
        with suppress(ValueError):  # a file that is being written, or was when its writer was killed
            meta = json.loads(text)
            if meta["status"] == "SUCCESS":
                found.add(meta["task_id"])
    return found


def followed(site: Site) -> set[str]:
    """Return the ids of the tasks whose successors have been sent."""
    messages = [*(site.folder / "processed").glob("*.msg"), *(site.folder / "broker").glob("*.celery.msg")]
    parents = {json.loads(path.read_text())["headers"].get("parent_id") for path in messages}
    return {parent for parent in parents if parent}


def stored(site: Site) -> set[str]:
    storage = site.store.storage("Main")
    assert isinstance(storage, RecordStorage)
    return {record.key.task_id for record in storage.records(Query((RESULT,), "crash"), payload=False)}


@pytest.mark.parametrize("broker", ["folder", "redis"])
def test_every_acknowledged_result_outlives_a_killed_worker(
    broker: str, make_site: MakeSite, request: pytest.FixtureRequest
) -> None:
    late = {"task_acks_late": True, "task_reject_on_worker_lost": True}
    if broker == "folder":
        site = make_site(celery=late)
    else:
        url = request.getfixturevalue("redis_url")
        site = make_site(celery=late, broker=f"{url}/2", backend=f"{url}/3")
    runs = [
        site.store.start("crash", chain(site.sig("echo", number), site.sig("echo"), site.sig("plain")))
        for number in range(FLOWS)
    ]
    for kill in range(1, KILLS + 1):
        worker = site.start_worker("prefork", 2)
        until(lambda kill=kill: len(acknowledged(site)) >= kill * FLOWS // 2, "some results")  # type: ignore[misc]
        worker.kill()
        assert 0 < len(acknowledged(site)) < 3 * FLOWS, "the worker was killed too late to tell anything"
        assert acknowledged(site) <= stored(site)
        if broker == "folder":
            assert followed(site) <= stored(site)
        site.redeliver()
        with closing(sqlite3.connect(site.folder / "main.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    if broker == "redis":
        # A worker takes a message from Redis before it notes down that it has: a kill in between loses the message.
        return
    site.start_worker("prefork", 2)
    assert [site.end_of(run) for run in runs] == [2 * number for number in range(FLOWS)]
