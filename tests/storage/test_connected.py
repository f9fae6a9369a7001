"""Connecting lazily, once per process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flowstore.errors import StorageError, UnreachableError
from flowstore.record import Page, Query, Record, Ref
from flowstore.storage import ConnectedStorage, RecordStorage


class Refused(Exception):
    pass


class Client:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Counting(ConnectedStorage[Client], RecordStorage):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[Client] = []
        self.refuses = False

    def _open(self) -> Client:
        if self.refuses:
            raise Refused
        self.opened.append(Client())
        return self.opened[-1]

    def _translate(self, exc: Exception) -> StorageError | None:
        return UnreachableError("refused") if isinstance(exc, Refused) else None

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        return None

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return 1

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        return False

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return Page([])


@pytest.fixture
def storage() -> Counting:
    return Counting()


@pytest.fixture
def in_child(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process look like a child that was forked from the one that connected."""
    pid = os.getpid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: pid + 1)
        yield


def test_nothing_is_opened_before_connect(storage: Counting) -> None:
    assert not storage.is_connected()
    with pytest.raises(StorageError, match="call connect"):
        storage._connection()
    assert storage.opened == []


def test_connecting_twice_opens_once(storage: Counting) -> None:
    storage.connect()
    storage.connect()
    assert storage.opened == [storage._connection()]


def test_disconnecting_closes_once(storage: Counting) -> None:
    storage.disconnect()
    storage.connect()
    storage.disconnect()
    storage.disconnect()
    assert [client.closed for client in storage.opened] == [1]
    assert not storage.is_connected()


def test_it_connects_again(storage: Counting) -> None:
    storage.connect()
    storage.disconnect()
    storage.connect()
    assert storage._connection() is storage.opened[1]


def test_an_error_of_the_driver_is_translated(storage: Counting) -> None:
    storage.refuses = True
    with pytest.raises(UnreachableError, match="refused") as caught:
        storage.connect()
    assert isinstance(caught.value.__cause__, Refused)
    assert not storage.is_connected()


def test_a_child_opens_its_own_and_leaves_the_parents_open(storage: Counting, request: pytest.FixtureRequest) -> None:
    storage.connect()
    request.getfixturevalue("in_child")
    assert not storage.is_connected()
    assert storage._connection() is storage.opened[1]
    storage.disconnect()
    assert [client.closed for client in storage.opened] == [0, 1]


def test_a_child_that_never_used_it_closes_nothing(storage: Counting, request: pytest.FixtureRequest) -> None:
    storage.connect()
    request.getfixturevalue("in_child")
    storage.disconnect()
    assert [client.closed for client in storage.opened] == [0]
