"""What it takes to connect, and what happens when the server does not answer."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from flowstore.errors import (
    ConfigurationError,
    ConflictError,
    OutcomeUnknownError,
    StorageError,
    UnreachableError,
    UnsupportedError,
)
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storages import MongoStorage
from flowstore.testing import record
from tests.servers.mongo import Place
from tests.servers.proxy import Proxy
from tests.storages.mongo.mongo_kit import fresh, opened, through

pytest_plugins = ("tests.storages.mongo.mongo_fixtures",)

KEY = Key("f", "t", "1")
CANARY = "canary-c0ffee"


# Connecting


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"db_name": ""}, "db_name: ''"),
        ({"collection_name": "a$b"}, r"collection_name: 'a\$b'"),
        ({"uri": "mongodb://x", "host": "y"}, "either the URI, or host and port"),
        ({"uri": f"http://user:{CANARY}@x"}, "must begin with mongodb://"),
        ({"host": f"mongodb://user:{CANARY}@x"}, "give it as uri"),
        ({"password": CANARY}, "the username is missing"),
        ({"write_concern": 0}, "would not notice"),
        ({"connect_timeout": -1}, "connect_timeout must be"),
        ({"read_timeout": float("nan")}, "read_timeout must be"),
    ],
)
def test_refuses_what_it_can_not_use(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        MongoStorage(**{"db_name": "db", "collection_name": "c", **arguments})
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [f"mongodb://us@er:{CANARY}@x/", f"mongodb://user:{CANARY}%@x", f"mongodb://user:{CANARY}@x:port/"],
)
def test_an_address_that_is_wrong_does_not_show_its_password(uri: str) -> None:
    storage = MongoStorage("db", "c", uri=uri)
    with pytest.raises(ConfigurationError, match="not right") as caught:
        storage.connect()
    assert CANARY not in repr(storage) + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("place", ["uri", "arguments"])
def test_a_password_is_not_shown_when_nobody_answers(place: str) -> None:
    given: dict[str, Any] = (
        {"uri": f"mongodb://user:{CANARY}@127.0.0.1:1/"}
        if place == "uri"
        else {"host": "127.0.0.1", "port": 1, "username": "user", "password": CANARY}
    )
    storage = MongoStorage("db", "c", connect_timeout=0.2, **given)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 ") as caught:
        storage.connect()
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert CANARY not in repr(storage) + "".join(traceback.format_exception(caught.value))


def test_takes_host_and_port(mongo_server: Place, mongo_configuration: dict[str, Any]) -> None:
    if mongo_server.server is None:
        pytest.skip("the server given may need more than host and port")
    configuration = {**mongo_configuration, "host": "127.0.0.1", "port": mongo_server.server.port}
    del configuration["uri"]
    with opened(configuration) as storage:
        storage.store("f", "t", "1", 1)
        assert storage.retrieve("f", "t", "1") == 1


def test_is_not_usable_while_disconnected(mongo_configuration: dict[str, Any]) -> None:
    storage = MongoStorage(**mongo_configuration)
    with pytest.raises(StorageError, match="not connected"):
        storage.retrieve("f", "t", "1")


def test_refuses_a_server_whose_changes_are_not_atomic(ferret: Place) -> None:
    with pytest.raises(UnsupportedError, match="FerretDB"), opened(fresh(ferret.uri)):
        pass


# Lost answers


@pytest.mark.parametrize("if_revision", [None, 0, 1])
def test_a_lost_answer_is_an_unknown_outcome_and_no_conflict_later(mongo_proxy: Proxy, if_revision: int | None) -> None:
    with opened(fresh(through(mongo_proxy))) as storage:
        if if_revision:
            if_revision = storage.put(record(KEY, "old")).revision
        mine = record(KEY, "mine", run_id="r")
        mongo_proxy.lose_answers = True
        with pytest.raises(OutcomeUnknownError):
            storage.put(mine, if_revision=if_revision)
        assert mongo_proxy.lost >= 1
        mongo_proxy.lose_answers = False
        stored = storage.put(mine, if_revision=if_revision)
        assert storage.get(KEY) == stored
        assert storage.count(Query(run_id="r")) == 1
        with pytest.raises(ConflictError):
            storage.put(record(KEY, "another"), if_revision=0)


def test_a_lost_answer_to_a_delete_or_a_batch_is_an_unknown_outcome(mongo_proxy: Proxy) -> None:
    with opened(fresh(through(mongo_proxy))) as storage:
        for work in (
            lambda: storage.delete(KEY),
            lambda: storage.delete_many([Ref(RESULT, KEY)]),
            lambda: storage.put_many([record(KEY, 1)]),
        ):
            storage.put(record(KEY, "x"))
            mongo_proxy.lose_answers = True
            with pytest.raises(OutcomeUnknownError):
                work()
            mongo_proxy.lose_answers = False
