"""Lost answers, requests that fail and are tried again or not, and stores that do less than they should."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import AWSResponse

from flowstore.errors import ConflictError, OutcomeUnknownError, StorageError, UnreachableError, UnsupportedError
from flowstore.record import Key, Query
from flowstore.storages import S3Storage
from flowstore.storages.s3 import bucket as _s3_bucket
from flowstore.storages.s3 import conditions as _s3_conditions
from flowstore.testing import record
from tests.servers.proxy import Proxy
from tests.servers.s3 import Store
from tests.storages.s3.s3_kit import opened

pytest_plugins = ("tests.storages.s3.s3_fixtures",)

KEY = Key("f", "t", "1")


def test_too_much_is_refused_before_it_is_sent(
    s3_configuration: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(s3_configuration) as storage:
        storage.store("f", "t", "1", "old")
        # The real limit is more than a test can hold in memory.
        monkeypatch.setattr(_s3_bucket, "MAX_SIZE", 10_000)
        with pytest.raises(UnsupportedError, match="10000 are the limit"):
            storage.store("f", "t", "1", "x" * 10_000)
        assert storage.retrieve("f", "t", "1") == "old"
        assert storage.count(Query()) == 1


# Lost answers


@pytest.fixture
def proxy(store: Store) -> Iterator[Proxy]:
    proxy = Proxy(urlsplit(store.url).port or 80)
    yield proxy
    proxy.close()


def through(proxy: Proxy, configuration: dict[str, Any]) -> dict[str, Any]:
    return {**configuration, "endpoint_url": f"http://127.0.0.1:{proxy.port}"}


@pytest.mark.parametrize("if_revision", [None, 0, 1])
def test_a_lost_answer_is_an_unknown_outcome_and_no_conflict_later(
    s3_configuration: dict[str, Any], proxy: Proxy, if_revision: int | None
) -> None:
    with opened(through(proxy, s3_configuration)) as storage:
        if if_revision:
            if_revision = storage.put(record(KEY, "old")).revision
        mine = record(KEY, "mine", run_id="r")
        proxy.lose_answers = True
        for _ in range(3):
            with pytest.raises(UnreachableError):
                storage.put(mine, if_revision=if_revision)
        assert proxy.lost >= 3
        proxy.lose_answers = False
        stored = storage.put(mine, if_revision=if_revision)
        assert storage.get(KEY) == stored
        assert [one.ref for one in storage.records(Query(run_id="r"))] == [mine.ref]


def test_a_lost_answer_to_a_write_is_an_unknown_outcome(s3_configuration: dict[str, Any], proxy: Proxy) -> None:
    with opened(through(proxy, s3_configuration)) as storage:
        proxy.lose_answers = True
        with pytest.raises(OutcomeUnknownError):
            storage.put(record(KEY, "x"))
        with pytest.raises(UnreachableError) as caught:
            storage.get(KEY)
        assert not isinstance(caught.value, OutcomeUnknownError)


# Errors


@contextmanager
def failing(
    storage: S3Storage, method: str, status: int, times: int, code: str = "Busy", asking_for: str = ""
) -> Iterator[list[str]]:
    """Let a number of requests be answered with an error, and list those of the method that were made.

    A mock: no server can be told to fail. The answers are put in where the client would send.
    """
    asked: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        if request.method != method or asking_for not in request.url:
            return None
        asked.append(request.url)
        if len(asked) > times:
            return None
        error = f"<Error><Code>{code}</Code><Message>A message.</Message></Error>".encode()
        return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda **_: iter([error])))

    events = storage._connection().bucket.client.meta.events
    events.register("before-send.s3", answer)
    try:
        yield asked
    finally:
        events.unregister("before-send.s3", answer)


@pytest.mark.parametrize("status", [500, 503])
def test_a_read_is_tried_again_when_the_server_fails(s3_configuration: dict[str, Any], status: int) -> None:
    with opened(s3_configuration) as storage:
        storage.store_blob(KEY, "b", io.BytesIO(b"blob"))
        storage.store("f", "t", "1", "x")
        with failing(storage, "GET", status, times=2) as asked:
            assert storage.retrieve("f", "t", "1") == "x"
        assert len(asked) == 3
        with failing(storage, "GET", status, times=2):
            assert [one.key for one in storage.records(Query(kinds=("result",)))] == [KEY]
        with failing(storage, "GET", status, times=2):
            assert storage.retrieve_blob(KEY, "b").read() == b"blob"
        with failing(storage, "GET", status, times=3) as asked, pytest.raises(UnreachableError) as caught:
            storage.retrieve("f", "t", "1")
        assert len(asked) == 3
        assert not isinstance(caught.value, OutcomeUnknownError)


@pytest.mark.parametrize(("status", "error"), [(500, OutcomeUnknownError), (503, UnreachableError)])
def test_a_write_is_sent_once(s3_configuration: dict[str, Any], status: int, error: type[StorageError]) -> None:
    with opened(s3_configuration) as storage:
        with failing(storage, "PUT", status, times=1) as asked, pytest.raises(error) as caught:
            storage.put(record(KEY, "x"))
        assert type(caught.value) is error
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented"), (405, "MethodNotAllowed")]
)
def test_a_cleanup_goes_on_where_uploads_can_not_be_listed(
    s3_configuration: dict[str, Any], caplog: pytest.LogCaptureFixture, status: int, code: str
) -> None:
    with opened(s3_configuration) as storage:
        storage.store_blob(KEY, "b", io.BytesIO(b"blob"))
        with failing(storage, "GET", status, times=10, code=code, asking_for="uploads") as asked:
            assert storage.remove_orphans(0) == 0
        assert len(asked) == 1
        assert "can't delete unfinished uploads in" in caplog.text
        assert storage.retrieve_blob(KEY, "b").read() == b"blob"


# Careless stores


class Careless(Proxy):
    """A store that overlooks conditions: what comes between a client and moto renames them on the way."""

    def __init__(self, port: int, *overlooked: bytes) -> None:
        self._overlooked = overlooked
        super().__init__(port)

    def passed(self, data: bytes) -> bytes:
        for header in self._overlooked:
            data = data.replace(header + b":", b"X" + header[1:] + b":")
        return data


@contextmanager
def careless(emulation: Store, configuration: dict[str, Any], *overlooked: bytes) -> Iterator[S3Storage]:
    between = Careless(urlsplit(emulation.url).port or 80, *overlooked)
    try:
        with opened({**configuration, "endpoint_url": f"http://127.0.0.1:{between.port}"}) as storage:
            yield storage
    finally:
        between.close()


@pytest.mark.parametrize("overlooked", [b"If-None-Match", b"If-Match"])
def test_refuses_conditions_that_the_store_overlooks(
    emulation: Store, emulated_configuration: dict[str, Any], overlooked: bytes
) -> None:
    with careless(emulation, emulated_configuration, overlooked) as storage:
        first, *others = [storage.put(record(KEY, number)).revision for number in range(3)]
        assert others == [first + 1, first + 2]
        for work in (
            lambda: storage.put(record(KEY, "x"), if_revision=0),
            lambda: storage.put(record(KEY, "x"), if_revision=others[-1]),
            lambda: storage.delete(KEY, if_revision=others[-1]),
        ):
            with pytest.raises(UnsupportedError, match="conditions"):
                work()
        assert storage.retrieve("f", "t", "1") == 2
        assert [one.key for one in storage.records(Query())] == [KEY]
        assert storage.delete(KEY)
        assert not storage.delete(KEY)
        assert storage.count(Query()) == 0


def test_keeps_to_conditions_where_the_store_does(emulation: Store, emulated_configuration: dict[str, Any]) -> None:
    with careless(emulation, emulated_configuration) as storage:
        assert storage.put(record(KEY, "x"), if_revision=0) == storage.get(KEY)
        with pytest.raises(ConflictError):
            storage.put(record(KEY, "y"), if_revision=0)


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "NoSuchKey"), (409, "ConditionalRequestConflict"), (412, "PreconditionFailed"), (501, "NotImplemented")],
)
@pytest.mark.parametrize("times", [1, 2])
def test_one_refusal_does_not_prove_that_a_store_overlooks_conditions(
    s3_configuration: dict[str, Any], monkeypatch: pytest.MonkeyPatch, status: int, code: str, times: int
) -> None:
    with opened(s3_configuration) as storage:
        monkeypatch.setattr(_s3_conditions, "_known", {})
        with failing(storage, "PUT", status, times=times, code=code, asking_for="probe") as asked:
            bucket = storage._connection().bucket
            found = _s3_conditions.conditions_of(bucket, f"{uuid.uuid4()}/")
        assert found.put
        assert len(asked) > times


def test_trying_a_store_leaves_nothing_behind(store: Store, s3_configuration: dict[str, Any]) -> None:
    name = f"tried-{uuid.uuid4()}"
    with opened({**s3_configuration, "bucket": name, "create_bucket": True}), closing(store.client()) as client:
        assert "Contents" not in client.list_objects_v2(Bucket=name)
