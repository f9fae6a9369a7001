"""Connections to PostgreSQL and MySQL: how many there are, and what happens when they break."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from flowstore.errors import (
    ConflictError,
    OutcomeUnknownError,
    UnreachableError,
)
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.storages import SqlStorage
from tests.servers.process import PASSWORD
from tests.storages.sql.sql_servers import around, behind, is_postgres, with_settings
from tests.storages.storage_kit import Recipe, make, opened, record

pytest_plugins = ("tests.storages.sql.sql_fixtures",)

KEY = Key("f", "t", "1")


# Connections


@contextmanager
def connections(recipe: Recipe) -> Iterator[Callable[[], int]]:
    """Give a function that counts flowstore's connections."""
    database = recipe[1]["connection_string"].rpartition("/")[2]
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flowstore'"
        if is_postgres(recipe)
        else f"SELECT count(*) FROM information_schema.processlist WHERE db = '{database}' AND id <> CONNECTION_ID()"
    )
    turn = threading.Lock()
    with around(recipe) as connection, connection.cursor() as cursor:

        def count() -> int:
            with turn:
                cursor.execute(statement)
                return int(cursor.fetchone()[0])

        yield count


def test_threads_that_end_leave_few_connections(recipe: Recipe, storage: RecordStorage) -> None:
    def work(number: int) -> None:
        storage.store("f", "t", str(number), number)
        assert storage.retrieve("f", "t", str(number)) == number

    with connections(recipe) as count:
        for _ in range(3):
            threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert count() <= 6
    assert storage.count(Query()) == 16


def test_a_limit_of_connections_holds(recipe: Recipe) -> None:
    seen = []
    with opened(with_settings(recipe, pool_limit=3)) as storage, connections(recipe) as count:

        def work(number: int) -> None:
            for turn in range(10):
                storage.store("f", str(number), str(turn), number)
                assert storage.retrieve("f", str(number), str(turn)) == number
            seen.append(count())

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
        assert storage.count(Query()) == 160
    assert max(seen) <= 3


def test_a_call_that_gets_no_connection_says_so(recipe: Recipe) -> None:
    with opened(with_settings(recipe, pool_limit=1, timeout=1)) as storage, around(recipe) as other:
        storage.store("f", "t", "1", 1)
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM flowstore_records FOR UPDATE")
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(storage.store, "f", "t", "1", 2) for _ in range(4)]
            errors = [one.exception() for one in waiting]
        assert {type(error) for error in errors} == {UnreachableError}
        cursor.execute("ROLLBACK")
        storage.store("f", "t", "1", 3)
        assert storage.retrieve("f", "t", "1") == 3


def test_a_wait_that_takes_too_long_changes_nothing(recipe: Recipe) -> None:
    with opened(with_settings(recipe, timeout=1)) as storage, around(recipe) as other:
        storage.store("f", "t", "1", "old")
        cursor = other.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM flowstore_records FOR UPDATE")
        writes: list[Callable[[], object]] = [
            lambda: storage.store("f", "t", "1", "new"),
            lambda: storage.put_many([record(KEY, "new"), record(Key("f", "t", "2"), "new")]),
            lambda: storage.delete(KEY),
        ]
        for write in writes:
            with pytest.raises(UnreachableError, match="timeout") as caught:
                write()
            assert not isinstance(caught.value, OutcomeUnknownError)
        cursor.execute("ROLLBACK")
        assert storage.retrieve("f", "t", "1") == "old"
        assert storage.count(Query()) == 1


class TooLongError(Exception):
    """As a task's time limit raises it, in whatever line of code is running."""


def test_a_call_that_is_interrupted_leaves_no_answer_to_the_next(recipe: Recipe, storage: RecordStorage) -> None:
    def interrupt(*_: object) -> None:
        raise TooLongError

    for number in range(20):
        storage.store("f", "t", str(number), number)
    sleep = "SELECT pg_sleep(60)" if is_postgres(recipe) else "SELECT SLEEP(60)"
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        assert isinstance(storage, SqlStorage)
        for number in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(TooLongError):
                storage._connection().rows(sleep)
            assert storage.retrieve("f", "t", str(number)) == number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_a_signal_handler_may_use_the_storage_meanwhile(recipe: Recipe, storage: RecordStorage) -> None:
    storage.store("f", "t", "1", "x")
    found = []

    def use(*_: object) -> None:
        found.append(storage.retrieve("f", "t", "1"))

    sleep = "SELECT 5, pg_sleep(0.3)" if is_postgres(recipe) else "SELECT 5, SLEEP(0.3)"
    old = signal.signal(signal.SIGALRM, use)
    try:
        assert isinstance(storage, SqlStorage)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert storage._connection().rows(sleep)[0][0] == 5
    finally:
        signal.signal(signal.SIGALRM, old)
    assert found == ["x"]


# Lost answers


def test_a_lost_answer_is_no_conflict(recipe: Recipe) -> None:
    rounds = 100
    with behind(recipe) as (between, middle), opened(between) as storage:
        for number in range(rounds):
            mine = record(Key("f", "t", str(number)), number)
            middle.lose_answers = True
            with pytest.raises(OutcomeUnknownError, match="not known"):
                storage.put(mine, if_revision=0)
            middle.lose_answers = False
            assert storage.put(mine, if_revision=0) == storage.get(mine.key)
            with pytest.raises(ConflictError):
                storage.put(record(mine.key, "other"), if_revision=0)
        assert storage.count(Query()) == rounds
        assert middle.lost >= rounds


def test_a_lost_request_is_unknown_too_and_can_be_repeated(recipe: Recipe) -> None:
    with behind(recipe) as (between, middle), opened(between) as storage:
        for number in range(20):
            mine = record(Key("f", "t", str(number)), number)
            middle.lose_requests = True
            with pytest.raises(OutcomeUnknownError):
                storage.put(mine, if_revision=0)
            middle.lose_requests = False
            stored = storage.put(mine, if_revision=0)
            assert storage.get(mine.key) == stored == storage.put(mine, if_revision=0)


def test_a_read_that_is_lost_is_not_unknown(recipe: Recipe) -> None:
    with behind(recipe) as (between, middle), opened(between) as storage:
        storage.store("f", "t", "1", 1)
        reads: list[Callable[[], object]] = [
            lambda: storage.retrieve("f", "t", "1"),
            lambda: storage.get_many([Ref(RESULT, KEY)]),
        ]
        for read in reads:
            middle.lose_answers = True
            with pytest.raises(UnreachableError) as caught:
                read()
            assert type(caught.value) is UnreachableError
            middle.lose_answers = False
        assert storage.retrieve("f", "t", "1") == 1


# Secrets


def test_a_wrong_password_is_not_shown(recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    wrong = recipe[1]["connection_string"].replace(PASSWORD, "canary-wrong")
    assert wrong != recipe[1]["connection_string"] or "FLOWSTORE_TEST" in "".join(os.environ)
    storage = make(with_settings(recipe, connection_string=wrong, echo=True))
    with caplog.at_level(logging.DEBUG), pytest.raises(UnreachableError, match="at 127") as caught:
        storage.connect()
    exc: BaseException | None = caught.value
    while exc is not None:
        assert "canary" not in f"{exc}{exc!r}"
        exc = exc.__cause__ or exc.__context__
    assert "canary" not in caplog.text


def test_echo_shows_statements_without_values(recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), opened(with_settings(recipe, echo=True)) as storage:
        storage.store("f", "t", "1", "canary")
        storage.retrieve("f", "t", "1")
    assert "INSERT INTO flowstore_records" in caplog.text
    assert "canary" not in caplog.text
    assert "canary" not in repr(vars(storage))
