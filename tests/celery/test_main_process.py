"""A worker's main process hands over what it stores, and never waits for a storage."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.exceptions import WorkerLostError

from flowstore import FlowStore
from flowstore.celery import writer
from flowstore.celery.writer import BackgroundWriter
from tests.celery.sites import until

MEMORY = {"storages": [{"name": "MemoryStorage"}], "global": {"default_storage": "MemoryStorage"}}


class Stuck:
    """A write that takes as long as it is made to."""

    def __init__(self) -> None:
        self.begun, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.go.wait()
        self.done.set()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stuck = Stuck()
    yield stuck
    stuck.go.set()


def test_what_is_handed_over_is_stored_in_its_order() -> None:
    one, written = BackgroundWriter(), []
    for number in range(100):
        one.hand_over(lambda number=number: written.append(number), str(number))  # type: ignore[misc]
    one.flush()
    assert written == list(range(100))


def test_who_waits_finds_it_stored() -> None:
    one, written = BackgroundWriter(), []
    for number in range(10):
        one.hand_over(lambda number=number: written.append(number), str(number), wait=True)  # type: ignore[misc]
        assert written[-1] == number


def test_nobody_waits_behind_one_that_is_late(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float | None] = []
    plain = threading.Event.wait

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout == writer.WAIT_SECONDS:
            waited.append(timeout)
            timeout = 0
        return plain(event, timeout)

    monkeypatch.setattr(threading.Event, "wait", wait)
    one, written = BackgroundWriter(), []
    one.hand_over(stuck, "stuck", wait=True)
    for number in range(20):
        one.hand_over(lambda number=number: written.append(number), "x", wait=True)  # type: ignore[misc]
    assert len(waited) == 1
    stuck.go.set()
    one.flush()
    assert written == list(range(20))
    one.hand_over(lambda: None, "x", wait=True)
    assert len(waited) == 2


def test_what_finds_no_room_is_lost_and_logged(stuck: Stuck, caplog: pytest.LogCaptureFixture) -> None:
    one = BackgroundWriter()
    one.hand_over(stuck, "stuck")
    stuck.begun.wait()
    with caplog.at_level(logging.ERROR, "flowstore.celery.writer"):
        for number in range(writer.QUEUE_SIZE + 2):
            one.hand_over(lambda: None, f"the error of {number}")
    assert [record.getMessage() for record in caplog.records] == [
        f"can't store the error of {number}: {writer.QUEUE_SIZE} writes are queued already"
        for number in (writer.QUEUE_SIZE, writer.QUEUE_SIZE + 1)
    ]


def test_a_shutdown_waits_no_longer_than_it_may(stuck: Stuck, caplog: pytest.LogCaptureFixture) -> None:
    one = BackgroundWriter()
    one.hand_over(stuck, "the first")
    stuck.begun.wait()
    one.hand_over(lambda: None, "the second")
    with caplog.at_level(logging.ERROR, "flowstore.celery.writer"):
        one.flush(0.01)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "can't store the first",
        "can't store the second",
    ]


def test_a_write_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    one, written = BackgroundWriter(), []
    one.hand_over(lambda: 1 / 0, "the broken one")  # type: ignore[arg-type]
    one.hand_over(lambda: written.append(1), "x")
    one.flush()
    assert written == [1]
    assert "can't store the broken one" in caplog.text


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("main process", broker="memory://", backend="cache+memory://", set_as_current=False) as app:

        @app.task(name="lost", shared=False)
        def lost() -> None:
            pass

        app.finalize()
        yield app
        writer.end_main_process()


REPORTS: dict[str, Any] = {
    "mark_as_failure": lambda backend, request: backend.mark_as_failure(
        request.id, WorkerLostError("gone"), request=request
    ),
    "mark_as_revoked": lambda backend, request: backend.mark_as_revoked(request.id, "revoked", request=request),
    "mark_as_retry": lambda backend, request: backend.mark_as_retry(
        request.id, WorkerLostError("gone"), request=request
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_in_the_main_process_is_stored_by_another_thread(
    name: str, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FlowStore(MEMORY, app=app)
    threads = []
    plain = store._outcomes.store_error

    def store_error(*args: Any) -> Any:
        threads.append(threading.current_thread())
        return plain(*args)

    monkeypatch.setattr(store._outcomes, "store_error", store_error)
    request = Context({"id": "1", "task": "lost", "args": [], "kwargs": {}, "delivery_info": {}})
    writer.become_main_process()
    REPORTS[name](app.backend, request)
    until(lambda: threads, "the writing")
    writer.end_main_process()
    assert threads[0] is not threading.current_thread()
    assert store.errors("lost", "lost", "1")
    REPORTS[name](app.backend, request)  # of a process that is none any more
    assert threads[1] is threading.current_thread()
    store.close()


class Request:
    """A request of a user's own, with what a report needs."""

    id = "1"
    task = "lost"
    chord = None
    errbacks: tuple[Any, ...] = ()
    ignore_result = False
    root_id = None


@pytest.mark.parametrize("report", ["mark_as_done", "mark_as_failure"])
def test_a_request_of_ones_own_is_enough(report: str, app: Celery) -> None:
    store = FlowStore(MEMORY, app=app)
    if report == "mark_as_done":
        app.backend.mark_as_done("1", 5, request=Request())
        assert store.retrieve("lost", "lost", "1") == 5
    else:
        app.backend.mark_as_failure("1", ValueError("x"), request=Request())
        assert store.retrieve_error("lost", "lost", "1").failure.message == "x"
    store.close()
