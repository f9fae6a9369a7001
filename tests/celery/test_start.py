"""What ``start`` sends and stores: what Celery alone would send, with the whole canvas stored first; or nothing."""

from __future__ import annotations

import random
import re
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, Task, chain, chord, group, signature
from celery.result import GroupResult
from celery.signals import after_task_publish, before_task_publish
from kombu.utils.json import dumps, loads

from flowstore import FlowStore, NotSentError, Record, UnreachableError
from flowstore.celery.canvas import part_of, prepared
from flowstore.record import RUN
from flowstore.storages.memory import MemoryStorage
from flowstore.store.plan import Plan, members_of

ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CONFIGURATION = {
    "storages": [{"name": "M", "classname": "MemoryStorage", "on_store_error": "fail"}],
    "global": {"default_storage": "M"},
}


def made(store: FlowStore | None, **conf: Any) -> Celery:
    app = Celery(uuid.uuid4().hex, broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(conf)

    @app.task(name="t", shared=False)
    def t(*args: Any) -> Any:
        return args[-1] if args else None

    app.task(name="u", shared=False)(t.run)
    if store is not None:
        store.attach(app)
    return app


@pytest.fixture
def store() -> Iterator[FlowStore]:
    store = FlowStore(CONFIGURATION)
    yield store
    store.close()


@pytest.fixture
def app(store: FlowStore) -> Celery:
    return made(store)


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """What is published: everything but what tells this process and moment apart."""
    found: list[dict[str, Any]] = []

    def note(sender: Any = None, body: Any = None, headers: Any = None, routing_key: Any = None, **_: Any) -> None:
        facts = {name: value for name, value in headers.items() if name not in ("origin", "flowstore")}
        found.append({"task": sender, "body": body, "headers": facts, "routing_key": routing_key})

    before_task_publish.connect(note)
    yield found
    before_task_publish.disconnect(note)


def seven() -> int:
    return 7


def same(value: Any) -> Any:
    return value


def canvas_of(app: Celery, rng: random.Random, depth: int) -> Any:
    """Make up a canvas: chains, groups and chords in each other, lists and generators, options and callbacks."""
    choice = rng.random()
    if depth == 0 or choice < 0.3:
        task = app.signature(rng.choice("tu"), args=(rng.randrange(100),), app=app)
        for chance, option in ((0.1, {"countdown": 3}), (0.1, {"queue": "other"}), (0.05, {"task_id": _uuid(rng)})):
            if rng.random() < chance:
                task.set(**option)
        for link in (task.link, task.link_error):
            if rng.random() < 0.1:
                link(app.signature("u", args=("linked",), app=app))
        return task
    parts = [canvas_of(app, rng, depth - 1) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
    if choice < 0.6:
        return chain(*parts)
    many: Any = iter(parts) if rng.random() < 0.2 else parts
    return group(many) if choice < 0.8 else chord(many, canvas_of(app, rng, depth - 1))


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def sent_by(send: Callable[[Any, dict[str, Any]], Any], app: Celery, seed: int, sent: list[Any]) -> tuple[Any, Any]:
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas = canvas_of(app, rng, rng.choice((1, 2, 3)))
        if rng.random() < 0.2:
            canvas = signature(loads(dumps(canvas)), app=app)
        options: dict[str, Any] = {"countdown": 5} if rng.random() < 0.2 else {}
        if rng.random() < 0.2:
            options["task_id"] = _uuid(rng)
        sent.clear()
        try:
            result = send(canvas, options)
        except Exception as exc:
            result = repr(exc)
    names: dict[str, str] = {}
    text = re.sub(r'"eta": "[^"]+"', '"eta": "then"', dumps(sent))
    return ID.sub(lambda found: names.setdefault(found[0], f"<{len(names)}>"), text), result


def ids_of(result: Any) -> Any:
    if isinstance(result, GroupResult):
        return {"group": [ids_of(one) for one in result.results]}
    return result.id


def ids_of_plan(result: Any) -> Any:
    return {"group": [ids_of_plan(one) for one in result["group"]]} if isinstance(result, dict) else result[1]


@pytest.mark.parametrize("protocol", [1, 2])
def test_what_is_sent_and_answered_is_what_celery_alone_sends_and_answers(protocol: int, sent: list[Any]) -> None:
    app = made(None, task_protocol=protocol)
    plans: list[Plan] = []

    def by_start(canvas: Any, options: dict[str, Any]) -> Any:
        copy = prepared(canvas, app, options)
        part = part_of(copy, str)
        assert part is not None
        plans.append(Plan.of(part))
        return copy.apply_async(**options)

    for seed in range(150):
        alone, _ = sent_by(lambda canvas, options: canvas.apply_async(**options), app, seed, sent)
        started, answer = sent_by(by_start, app, seed, sent)
        assert started == alone, seed
        if not isinstance(answer, str):
            assert ids_of_plan(plans[-1].result) == ids_of(answer), seed
            published = {message["headers"].get("id") or message["body"]["id"] for message in sent}
            locks = {message["headers"].get("id") for message in sent if message["task"] == "celery.chord_unlock"}
            assert published - locks - {None} <= set(plans[-1].members), seed


def test_a_canvas_survives_its_record() -> None:
    app = made(None)
    for seed in range(100):
        rng = random.Random(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            part = part_of(prepared(canvas_of(app, rng, 3), app, {}), str)
        assert part is not None
        plan = Plan.of(part)
        assert Plan.from_dict(loads(dumps(plan.to_dict()))) == plan
        assert {*plan.parents()} <= {member.id for member in members_of(part)}


STARTABLE: dict[str, Callable[[Celery], Any]] = {
    "a task": lambda app: app.tasks["t"],
    "a signature": lambda app: app.tasks["t"].s(1),
    "a mapping": lambda app: loads(dumps(chord([app.tasks["t"].s(1), app.tasks["t"].s(2)], app.tasks["u"].s()))),
    "a task that is not known here": lambda app: app.signature("elsewhere", app=app),
    "chunks": lambda app: app.tasks["t"].chunks([(1, 1), (2, 2), (3, 3)], 2),
    "chunks of a generator": lambda app: app.tasks["t"].chunks(((n, n) for n in range(3)), 2),
    "a map": lambda app: app.tasks["t"].map([1, 2]),
    "a starmap": lambda app: app.tasks["t"].starmap((n, n) for n in range(3)),
    "a group of a generator": lambda app: group(app.tasks["t"].s(n) for n in range(3)),
    "one signature many times": lambda app: group([app.tasks["t"].s(1)] * 3),
    "a chord without a header": lambda app: chord([], app.tasks["u"].s()),
}


@pytest.mark.parametrize("name", STARTABLE)
def test_start_takes_whatever_apply_async_takes(
    name: str, app: Celery, store: FlowStore, sent: list[dict[str, Any]]
) -> None:
    def described() -> list[Any]:
        return [(m["task"], ID.sub("", dumps(m["body"])), m["routing_key"]) for m in sent]

    canvas = STARTABLE[name](app)
    (signature(canvas, app=app) if type(canvas) is dict else canvas).apply_async()
    alone = described()
    sent.clear()
    run = store.start("flow", STARTABLE[name](app))
    assert described() == alone
    assert alone
    plan = store._run_reader.plan("flow", run.id)
    assert plan is not None
    assert {m["headers"]["id"] for m in sent if m["task"] != "celery.chord_unlock"} <= set(plan.members)


def test_a_canvas_can_be_started_again(app: Celery, store: FlowStore, sent: list[dict[str, Any]]) -> None:
    canvas = chain(app.tasks["t"].s(1), group(app.tasks["t"].s(n) for n in range(3)))
    first, second = (store.start("flow", canvas) for _ in range(2))
    plans = [store._run_reader.plan("flow", run.id) for run in (first, second)]
    assert plans[0] is not None
    assert plans[1] is not None
    assert not set(plans[0].members) & set(plans[1].members)


@pytest.mark.parametrize("conf", [{}, {"task_always_eager": True}], ids=["sent", "eager"])
def test_an_empty_group_is_done_at_once_and_an_empty_chain_is_refused(conf: dict[str, Any], store: FlowStore) -> None:
    made(store, **conf)
    for nothing in (group([]), chain(group([])), group(iter(()))):
        assert store.start("flow", nothing).get(timeout=0) == []
    empty = {"task": "celery.chain", "args": (), "kwargs": {"tasks": []}, "options": {}, "subtask_type": "chain"}
    for canvas in (chain(), chain(chain(), chain()), {**empty, "immutable": False}):
        with pytest.raises(ValueError, match="empty chain"):
            store.start("empty", canvas)
    assert store.runs("empty") == []


@pytest.mark.parametrize("canvas", ["t", None, 3, object()])
def test_what_is_no_signature_is_refused(canvas: object, app: Celery, store: FlowStore) -> None:
    with pytest.raises(TypeError, match="can't start a"):
        store.start("flow", canvas)
    assert store.runs("flow") == []


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_where_start_raises_nothing_was_sent(
    failing: int, app: Celery, store: FlowStore, monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    puts = 0
    plain = MemoryStorage._put

    def put(self: MemoryStorage, record: Record, *args: Any) -> int:
        nonlocal puts
        puts += record.kind == RUN
        if puts == failing and record.kind == RUN:
            raise UnreachableError("the database restarts right now")
        return plain(self, record, *args)

    monkeypatch.setattr(MemoryStorage, "_put", put)
    try:
        run = store.start("flow", chain(app.tasks["t"].s(1), app.tasks["u"].s()))
    except UnreachableError:
        assert sent == []
        assert store.runs("flow") == []
    else:
        assert len(sent) == puts == 1
        assert [one.id for one in store.runs("flow")] == [run.id]
        with pytest.raises(TimeoutError):
            run.get(timeout=0)


def test_why_nothing_was_sent_is_told_also_where_the_record_stays(
    app: Celery, store: FlowStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("the broker is away")

    def away(*_: Any, **__: Any) -> Any:
        raise UnreachableError("the storage is away too")

    monkeypatch.setattr(app.tasks["t"], "apply_async", refuse)
    monkeypatch.setattr(store, "_forget_run", away)
    with pytest.raises(OSError, match="the broker is away"):
        store.start("f", app.tasks["t"].s(1))
    assert "record of <FlowRun 'f'" in caplog.text


def test_the_record_of_a_run_is_there_before_anything_is_sent(app: Celery, store: FlowStore) -> None:
    known: list[int] = []

    def look(headers: Any = None, **_: Any) -> None:
        (run,) = store.runs("flow")
        plan = store._run_reader.plan("flow", run.id)
        known.append(headers["id"] in plan.members if plan is not None else 0)

    before_task_publish.connect(look)
    store.start("flow", group(app.tasks["t"].s(n) for n in range(3)))
    before_task_publish.disconnect(look)
    assert known == [True] * 3


class Once(Task):
    """What celery-singleton and its like do: a task that waits already is not sent again."""

    first: Any = None

    def apply_async(self, *args: Any, **options: Any) -> Any:
        self.first = self.first or super().apply_async(*args, **options)
        return self.first


class OwnId(Task):
    """A task that is known by its arguments."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        return super().apply_async(args, kwargs, **{**options, "task_id": f"{self.name}-{args!r}"})


def test_a_start_that_sends_nothing_says_so(app: Celery, store: FlowStore) -> None:
    once = app.task(name="once", base=Once, shared=False)(seven)
    first = store.start("one", once.s())
    with pytest.raises(NotSentError, match=r"'two' was not started.*'once' sent no message.*another task"):
        store.start("two", once.s())
    assert store.runs("two") == []
    assert [run.id for run in store.runs("one")] == [first.id]


def test_a_task_that_chooses_its_id_is_waited_for_under_that(app: Celery, store: FlowStore) -> None:
    own = app.task(name="own", base=OwnId, shared=False)(same)
    plan = store._run_reader.plan("flow", store.start("flow", own.s(1)).id)
    assert plan is not None
    assert plan.result == ["own", "own-(1,)"]
    assert "own-(1,)" in plan.members


def test_a_run_whose_sending_broke_off_in_the_middle_is_kept(app: Celery, store: FlowStore) -> None:
    def break_off(**_: Any) -> None:
        raise KeyboardInterrupt  # which signals let pass

    after_task_publish.connect(break_off)
    with pytest.raises(KeyboardInterrupt):
        store.start("flow", group(app.tasks["t"].s(n) for n in range(3)))
    after_task_publish.disconnect(break_off)
    assert len(store.runs("flow")) == 1


@pytest.mark.parametrize("task_id", [uuid.UUID(int=7), "x"])
def test_ids_of_any_type_become_text(task_id: Any, app: Celery, store: FlowStore) -> None:
    plan = store._run_reader.plan("flow", store.start("flow", app.tasks["t"].s(1), task_id=task_id).id)
    assert plan is not None
    assert plan.members == (str(task_id),)
