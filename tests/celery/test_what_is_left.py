"""What a task leaves behind: no argument, no secret, no flood of lines in the log; ids of any type."""

from __future__ import annotations

import gc
import logging
import uuid
import weakref
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import Any

import pytest
from celery import Celery, Task, chain
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded
from kombu.utils.json import dumps, loads

from flowstore import FlowStore, RecordStorage, UnreachableError
from flowstore.celery import recording
from flowstore.celery.messages import HEADER, arguments_of, hidden_arguments, text
from flowstore.celery.propagation import _put_header
from flowstore.interrupts import is_interrupt
from flowstore.record import RESULT, Record
from flowstore.store.task_run import FAILURE


def configured(policy: str = "fail", history: str = "none") -> dict[str, Any]:
    storage = {"name": "M", "classname": "MemoryStorage", "on_store_error": policy, "history": history}
    return {"storages": [storage], "global": {"default_storage": "M"}}


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("left", broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        yield app


def zero() -> int:
    return 0


def thing() -> object:
    return object()


def is_there(value: object) -> bool:
    return value is not None


class Big(dict[str, Any]):
    """Something whose life can be watched."""


class Handled(Task):
    def before_start(self, *_: Any) -> None: ...
    def on_success(self, *_: Any) -> None: ...
    def on_failure(self, *_: Any) -> None: ...
    def after_return(self, *_: Any) -> None: ...


class OwnCall(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@pytest.mark.parametrize("base", [Task, Handled, OwnCall])
@pytest.mark.parametrize("way", ["returns", "fails", "retries", "returns it"])
def test_no_argument_outlives_its_task(way: str, base: type, app: Celery) -> None:
    @app.task(name="use", base=base, bind=True, max_retries=1, default_retry_delay=0, shared=False)
    def use(self: Any, x: Any) -> Any:
        if way == "fails":
            raise ValueError(way)
        if way == "retries":
            raise self.retry()
        return x if way == "returns it" else 1

    def alive() -> int:
        watched = []
        gc.collect()
        gc.disable()
        try:
            for _time in range(5):
                big = Big()
                watched.append(weakref.ref(big))
                use.apply(args=(big,))
                del big
            return sum(ref() is not None for ref in watched)
        finally:
            gc.enable()

    alive()
    plain = alive()
    store = FlowStore(configured(), app=app)
    alive()
    assert alive() <= plain
    store.close()


HIDDEN = {"args": "(***)", "kwargs": "{'pin': ***}"}


def request_of(**more: Any) -> Context:
    message = {"id": "1", "task": "pay", "args": ["4111"], "kwargs": {"pin": "9876"}, "retries": 0, **more}
    return Context(loads(dumps(message)))


def test_arguments_that_their_sender_hides() -> None:
    request = request_of(argsrepr=HIDDEN["args"], kwargsrepr=HIDDEN["kwargs"])
    assert arguments_of(request) == HIDDEN
    assert hidden_arguments(request) == ["(***)", "{'pin': ***}"]
    assert arguments_of(request_of(kwargsrepr="{...}")) == {"args": ["4111"], "kwargs": "{...}"}


@pytest.mark.parametrize("args", [("4111",), (1, (2, 3)), (), ({"a": [1, None]}, "(,)")])
def test_arguments_that_nobody_hides(args: tuple[Any, ...], app: Celery) -> None:
    headers = app.amqp.as_task_v2("1", "pay", args, {"pin": "9876"}).headers
    request = request_of(args=args, argsrepr=headers["argsrepr"], kwargsrepr=headers["kwargsrepr"])
    assert arguments_of(request) == {"args": loads(dumps(args)), "kwargs": {"pin": "9876"}}
    assert hidden_arguments(request) is None


def test_what_is_hidden_stays_hidden_when_a_task_is_sent_again(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(argsrepr=HIDDEN["args"], kwargsrepr=HIDDEN["kwargs"])
    monkeypatch.setattr("flowstore.celery.propagation.sending_task", lambda: ("pay", request))
    for attempt in (1, 2, 3):
        # Celery shows them in clear from now on.
        headers = app.amqp.as_task_v2("1", "pay", ["4111"], {"pin": "9876"}, retries=attempt).headers
        _put_header(headers)
        assert "4111" in headers["argsrepr"]
        request = request_of(**{HEADER: headers[HEADER]}, argsrepr=headers["argsrepr"], retries=attempt)
        assert arguments_of(request) == HIDDEN


class Colour(str, Enum):  # noqa: UP042
    RED = "red"


class Text(str):
    def __str__(self) -> str:
        return "not this"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (uuid.UUID(int=5), str(uuid.UUID(int=5))),
        (7, "7"),
        (Colour.RED, "red"),
        (Text("a"), "a"),
        ("a\udcff", "a\\udcff"),
        (None, ""),
        ("é", "é"),
    ],
)
def test_ids_and_names_of_any_type_become_text(given: Any, stored: str) -> None:
    assert text(given) == stored
    assert type(text(given)) is str


@pytest.mark.parametrize("task_id", [uuid.uuid4(), 7, Colour.RED, "a\udcff"])
def test_a_task_whose_id_is_of_another_type(task_id: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "celery.app.trace")  # a report with the id in it can't travel
    app = Celery("ids", broker="memory://", set_as_current=False)  # many a result backend of Celery's takes texts only

    @app.task(name="end", bind=True, max_retries=1, default_retry_delay=0, shared=False)
    def end(self: Any, fails: bool) -> int:
        if fails:
            raise self.retry(exc=ValueError("x"))
        return 3

    store = FlowStore(configured(history="all"), app=app)
    assert end.apply(args=(False,), task_id=task_id).get() == 3
    assert store.retrieve("end", "end", text(task_id)) == 3
    assert isinstance(end.apply(args=(True,), task_id=task_id).result, ValueError)
    assert len(store.errors("end", "end", text(task_id))) == 2
    app.backend.mark_as_failure(task_id, ValueError("y"), request=Context({"id": task_id, "task": "end"}))
    assert store.retrieve_error("end", "end", text(task_id)).failure.message == "y"
    store.close()


def test_each_end_is_noted_once_in_eager_mode(app: Celery) -> None:
    @app.task(name="end", shared=False)
    def end(fails: bool) -> None:
        if fails:
            raise ValueError

    store = FlowStore(configured(history="all"), app=app)
    for throw in (True, False):
        for fails in (True, False):
            with suppress(ValueError):
                end.apply(args=(fails,), throw=throw, task_id=f"{throw} {fails}")
    noted = sorted((entry.task_id, entry.event) for entry in store.history("end"))
    assert noted == [
        ("False False", "task-succeeded"),
        ("False True", "task-failed"),
        ("True False", "task-succeeded"),
        ("True True", "task-failed"),
    ]
    store.close()


def test_a_message_whose_arguments_are_none(app: Celery) -> None:
    end = app.task(name="end", shared=False)(zero)
    store = FlowStore(configured(history="all"), app=app)
    app.finalize()
    request = {"id": "1", "task": "end", "retries": 0, "delivery_info": {}}
    with pytest.warns(RuntimeWarning, match="outside body"):
        build_tracer("end", app.tasks["end"], app=app)("1", [], [1], request)
    assert store.retrieve_error("end", "end", "1").failure.type_name == "InvalidTaskError"
    assert [entry.event for entry in store.history("end")] == ["task-failed"]
    assert end.apply(task_id="2").get() == 0
    store.close()


@pytest.fixture
def broken(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Attach a store whose storage raises, at each write, what is set."""

    def attach(exc: BaseException, policy: str) -> FlowStore:
        store = FlowStore(configured(policy), app=app)
        storage = store.storage("M")
        assert isinstance(storage, RecordStorage)

        plain = storage.put

        def put(record: Record, **more: Any) -> Any:
            if is_interrupt(exc) and record.kind != RESULT:  # which strikes once
                return plain(record, **more)
            try:
                raise ConnectionError("no route to the database")
            except ConnectionError as cause:
                raise exc from cause

        monkeypatch.setattr(storage, "put", put)
        return store

    return attach


def test_a_failed_store_is_one_error_line_with_the_way_there_at_debug(
    app: Celery, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    end = app.task(name="end", shared=False)(zero)
    broken(UnreachableError("can't be reached"), "fail")
    with caplog.at_level(logging.DEBUG, "flowstore"):
        result = end.apply(task_id="1")
    assert isinstance(result.result, UnreachableError)
    ours = [record for record in caplog.records if record.name.startswith("flowstore")]
    (error,) = (record for record in ours if record.levelno >= logging.ERROR)
    assert error.getMessage() == "can't store the result of 'end' / 'end' / '1': UnreachableError: can't be reached"
    assert error.exc_info is None
    assert any(record.exc_info for record in ours if record.levelno == logging.DEBUG)
    # Celery shows what happened, and because of what, without the way through driver and retries.
    said = result.traceback.splitlines()
    assert "ConnectionError: no route to the database" in said
    assert not [line for line in said if "operations.py" in line]


def test_an_interrupt_reaches_the_task_whatever_the_policy(app: Celery, broken: Any) -> None:
    end = app.task(name="end", shared=False)(zero)
    limit = SoftTimeLimitExceeded(1)
    broken(limit, "log")
    assert end.apply().result is limit


class Interrupt(BaseException):
    """As the timeouts of gevent are."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Interrupt])
def test_what_is_no_exception_passes(kind: type[BaseException], app: Celery, broken: Any) -> None:
    end = app.task(name="end", shared=False)(zero)
    broken(kind(), "log")
    with pytest.raises(kind):
        end.apply()


def test_a_value_without_a_form_that_nobody_wants_fails_nothing(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    end = app.task(name="no form", ignore_result=True, shared=False)(thing)
    wanted = app.task(name="wanted", shared=False)(thing)
    store = FlowStore(configured(), app=app)
    recording._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "flowstore"):
        results = [end.apply(task_id=str(number)) for number in range(3)]
    assert [result.state for result in results] == ["SUCCESS"] * 3
    (line,) = (record.getMessage() for record in caplog.records if record.name.startswith("flowstore"))
    assert "no form" in line
    assert store.retrieve("no form", "no form", "1") is None
    assert wanted.apply().state == FAILURE
    store.close()


def test_the_value_of_a_generator_is_refused_with_what_to_do(app: Celery) -> None:
    @app.task(name="generates", shared=False)
    def generates() -> Any:
        yield 1

    store = FlowStore(configured(), app=app)
    with pytest.raises(TypeError, match=r"list\(\.\.\.\)"):
        generates.apply(throw=True)
    store.close()


def test_a_chain_goes_on_behind_a_value_that_nobody_wants(app: Celery) -> None:
    first = app.task(name="first", ignore_result=True, shared=False)(thing)
    second = app.task(name="second", shared=False)(is_there)
    store = FlowStore(configured(), app=app)
    app.conf.task_always_eager = True
    run = store.start("flow", chain(first.s(), second.s()))
    assert run.get(timeout=10) is True
    store.close()
