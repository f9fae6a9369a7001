"""The header of a message, as anybody who may publish can write it: what is wrong in it is ignored, the task runs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import chord
from celery.app.trace import build_tracer
from celery.signals import before_task_publish
from hypothesis import given
from hypothesis import strategies as st

from flowstore import Query, RecordStorage
from flowstore.celery import messages
from flowstore.celery.messages import HEADER, LONGEST
from flowstore.record import RESULT
from tests.celery.conftest import MakeSite
from tests.celery.sites import PATIENCE, Site

GOOD = {"flow": "f", "run": "r", "sent": 1.5, "parent": ["echo", "p"], "joins": "g"}
TEXTS: tuple[Any, ...] = (5, True, [], {}, ["a"], "\ud800", "x" * (LONGEST + 1))
WRONG: dict[str, tuple[Any, ...]] = {
    "flow": TEXTS,
    "run": TEXTS,
    "joins": TEXTS,
    "sent": ("x", [], {}, True, float("nan"), float("inf"), 10**400),
    "parent": ("x", "xy", 5, [], ["a"], ["a", 5], [[], []], ["a", "b", "c"], {"a": "b"}, ["a", "\ud800"]),
}
BAD = [
    *({**GOOD, name: value} for name, values in WRONG.items() for value in values),
    *({name: value} for name, values in WRONG.items() for value in values),
    [1], "x", 5, True, {"flow": "f"}, {"run": "r"}, {"flow": "", "run": ""}, {"parent": ["a", "b"]}, {"more": []},
]  # fmt: skip


@contextmanager
def publishing(forged: Any) -> Iterator[None]:
    """Let what is published inside carry that header."""

    def forge(headers: dict[str, Any], **_: Any) -> None:
        headers[HEADER] = forged

    before_task_publish.connect(forge)
    try:
        yield
    finally:
        before_task_publish.disconnect(forge)


@pytest.fixture(scope="module")
def solo(make_site: MakeSite) -> Site:
    site = make_site()
    site.start_worker("solo", 1)
    return site


@pytest.fixture(scope="module")
def traced(make_site: MakeSite) -> Site:
    return make_site()


def run_with(site: Site, forged: Any) -> tuple[str, Any]:
    """Run a task here as a worker runs it that has got a message with this header; return its id and what came out."""
    task_id = str(uuid.uuid4())
    request = {
        "id": task_id, "args": [7], "kwargs": {}, "task": "echo", "root_id": task_id, "parent_id": None, "retries": 0,
        "is_eager": False, "called_directly": False, "delivery_info": {}, "headers": {HEADER: forged}, HEADER: forged,
    }  # fmt: skip
    outcome = build_tracer("echo", site.app.tasks["echo"], app=site.app)(task_id, [7], {}, request=request)
    return task_id, outcome.retval


def stored(site: Site, task_id: str) -> bool:
    storage = site.store.storage("Main")
    assert isinstance(storage, RecordStorage)
    return storage.count(Query((RESULT,), task_id=task_id)) == 1


@pytest.mark.parametrize("forged", BAD, ids=lambda forged: repr(forged)[:40])
def test_a_task_runs_and_is_stored_whatever_its_message_says(traced: Site, forged: Any) -> None:
    task_id, value = run_with(traced, forged)
    assert value == 7
    assert stored(traced, task_id)


def test_what_is_right_beside_what_is_wrong_is_kept(traced: Site) -> None:
    for name, values in WRONG.items():
        for value in values:
            task_id, _ = run_with(traced, {**GOOD, name: value})
            storage = traced.store.storage("Main")
            assert isinstance(storage, RecordStorage)
            (record,) = storage.records(Query((RESULT,), task_id=task_id))
            assert record.key.flow_name == ("echo" if name == "flow" else "f")
            assert record.run_id == (task_id if name == "run" else "r")
            assert record.headers.get("joins") == (None if name == "joins" else "g")
            assert record.headers.get("published_at") == (None if name == "sent" else 1.5)
            assert record.headers.get("parents") == (None if name == "parent" else [["echo", "p"]])
    assert len(traced.store.run("r").tasks()) > 1


def test_what_is_ignored_is_logged_once_for_each_kind(traced: Site, caplog: pytest.LogCaptureFixture) -> None:
    messages._warn.cache_clear()
    with caplog.at_level(logging.WARNING, "flowstore.celery.messages"):
        for _ in range(3):
            run_with(traced, {"parent": 5, "flow": []})
            run_with(traced, [1])
    assert [record.getMessage() for record in caplog.records] == [
        "ignored 'flow' in the message header 'flowstore': not a value that flowstore writes (type list)",
        "ignored 'parent' in the message header 'flowstore': not a value that flowstore writes (type int)",
        "ignored the message header 'flowstore': not a value that flowstore writes (type list)",
    ]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(ANY | st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, ANY)))
def test_any_header_at_all(traced: Site, forged: Any) -> None:
    task_id, value = run_with(traced, forged)
    assert value == 7
    assert stored(traced, task_id)


@pytest.mark.parametrize(
    "forged", [{**GOOD, "parent": 5}, {**GOOD, "flow": 5, "run": []}, [1], {"flow": "f"}], ids=repr
)
def test_a_chord_of_such_tasks_fires(solo: Site, forged: Any) -> None:
    with publishing(forged):
        result = chord([solo.si("echo", number) for number in range(2)], solo.sig("echo")).apply_async()
        again = solo.sig("echo", 5).apply_async()
    assert solo.celery_end(again.id) == "SUCCESS"
    assert result.get(timeout=PATIENCE) == [0, 1]
    flow_name = "f" if isinstance(forged, dict) and forged["flow"] == "f" else "echo"
    assert solo.result_of(flow_name, "echo", again.id) == 5
    assert "outside body" not in solo.workers[0].log
