"""A server that is unreachable, or was for a while."""

from __future__ import annotations

import io
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.errors import OutcomeUnknownError, StorageError, UnreachableError
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.aspects.values import misses
from flowstore.testing.base import Adapter, AdapterTests, Outage, require_fixture
from flowstore.testing.concurrency import in_threads
from flowstore.testing.samples import KEY, record
from flowstore.testing.secrets import secrets_in

OTHER = Key("flow", "task", "2")


@contextmanager
def during(outage: Outage | None) -> Iterator[None]:
    """Make the server unreachable in the block; skip the test if impossible."""
    given = require_fixture(outage, "outage", "faults")
    given.begin()
    try:
        yield
    finally:
        given.end()


def again(attempt: Callable[[], Any], deadline: float) -> Any:
    """Retry a call until the server is back.

    Raises the last StorageError after ``deadline`` seconds.
    """
    until = time.monotonic() + deadline
    while True:
        try:
            return attempt()
        except StorageError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


class FaultValueTests(AdapterTests):
    """An outage is neither a miss nor a success, and it passes."""

    aspect = "faults"

    def test_is_constructed_without_a_server(self, adapter: Adapter, outage: Outage | None) -> None:
        """An adapter can't be constructed during an outage.

        A worker must start, and a configuration be checked, while a server is down.
        """
        with during(outage):
            assert not adapter.make().is_connected()

    def test_connects_as_soon_as_the_server_is_there(self, adapter: Adapter, outage: Outage | None) -> None:
        """A failed connect raises a driver error, or spoils the next connect."""
        with adapter.configured() as get:
            with during(outage):
                for _ in range(2):
                    with pytest.raises(UnreachableError):
                        get()
            again(lambda: get().store("flow", "task", "1", "x"), self.deadline)
            assert get().retrieve("flow", "task", "1") == "x"

    def test_unreachable_is_no_miss(self, adapter: Adapter, outage: Outage | None) -> None:
        """An outage is reported as a missing result.

        The caller would compute it again, or give up the flow.
        """
        with adapter.configured() as get:
            storage = get()
            storage.store("flow", "task", "1", "x")
            with during(outage):
                try:
                    found = storage.retrieve("flow", "task", "1")
                except misses(storage) as exc:
                    pytest.fail(f"an outage was reported as a missing result: {exc!r}")
                except Exception:  # noqa: S110 - an adapter of the six methods may raise what its driver raises
                    pass
                else:
                    pytest.fail(
                        f"{found!r} was read while the server was unreachable: is it cached, or was there no outage?"
                    )
            assert again(lambda: get().retrieve("flow", "task", "1"), self.deadline) == "x"

    def test_goes_on_after_an_outage_that_it_did_not_notice(self, adapter: Adapter, outage: Outage | None) -> None:
        """A dead connection is not replaced after the server was restarted."""
        with adapter.configured() as get:
            get().store("flow", "task", "1", "x")
            with during(outage):
                pass
            assert again(lambda: get().retrieve("flow", "task", "1"), self.deadline) == "x"
            again(lambda: get().store("flow", "task", "1", "y"), self.deadline)
            assert get().retrieve("flow", "task", "1") == "y"

    def test_errors_hold_no_secrets(self, adapter: Adapter, outage: Outage | None) -> None:
        """A password is in an error or in one of its causes.

        Errors are logged, stored and shown.
        """
        with adapter.configured() as get, during(outage):
            with pytest.raises(UnreachableError) as caught:
                get()
            shown = "".join(traceback.format_exception(caught.value))
        for secret in secrets_in(adapter.configuration):
            assert secret not in shown


BLOB_NAME = "blob"
BLOB_BYTES = b"x" * 300_000
"""More than fits into a blob's record: its bytes are kept apart."""


def _read_blob(storage: RecordStorage) -> bytes:
    with storage.retrieve_blob(KEY, BLOB_NAME) as file:
        return file.read()


READS: dict[str, Callable[[RecordStorage], Any]] = {
    "get": lambda storage: storage.get(KEY),
    "get_many": lambda storage: storage.get_many([Ref(RESULT, KEY), Ref(RESULT, OTHER)]),
    "scan": lambda storage: storage.scan(Query()),
    "scan by pattern": lambda storage: storage.scan(Query(pattern="*")),
    "scan by task id": lambda storage: storage.scan(Query(order="task_id")),
    "scan of what has expired": lambda storage: storage.scan(Query(expired_at=1.0)),
    "records": lambda storage: list(storage.records(Query())),
    "count": lambda storage: storage.count(Query()),
    "retrieve_blob": _read_blob,
    "blobs": lambda storage: storage.blobs(KEY),
}
WRITES: dict[str, Callable[[RecordStorage], Any]] = {
    "put": lambda storage: storage.put(record(OTHER, "new")),
    "put if absent": lambda storage: storage.put(record(OTHER, "new"), if_revision=0),
    "put over a revision": lambda storage: storage.put(record(KEY, "new"), if_revision=1),
    "put_many": lambda storage: storage.put_many([record(OTHER, "new")]),
    "add_many": lambda storage: storage.add_many([record(OTHER, "new")]),
    "delete": lambda storage: storage.delete(OTHER),
    "delete a revision": lambda storage: storage.delete(KEY, if_revision=1),
    "delete_many": lambda storage: storage.delete_many([Ref(RESULT, OTHER)]),
    "delete_task": lambda storage: storage.delete_task(KEY),
    "delete_run": lambda storage: storage.delete_run("r"),
    "cleanup": lambda storage: storage.cleanup(0),
    "clear": lambda storage: storage.clear(),
    "purge": lambda storage: storage.purge(),
    "purge a kind": lambda storage: storage.purge(RESULT),
    "claim": lambda storage: storage.claim(OTHER, "lock"),
    "release": lambda storage: storage.release(OTHER, "lock"),
    "get_or_store": lambda storage: storage.get_or_store(OTHER, "new"),
    "store_blob": lambda storage: storage.store_blob(KEY, BLOB_NAME, b"y" * 400_000),
    "store_blob of a few bytes": lambda storage: storage.store_blob(KEY, BLOB_NAME, b"y"),
    "delete_blob": lambda storage: storage.delete_blob(KEY, BLOB_NAME),
    "remove_orphans": lambda storage: storage.remove_orphans(0),
}
OPERATIONS = {**READS, **WRITES}


class FaultTests(FaultValueTests):
    """Each operation raises flowstore's error in an outage, and works later."""

    aspect = "faults"

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_operations_raise_unreachable(self, storage: RecordStorage, outage: Outage | None, operation: str) -> None:
        """An operation raised a driver error instead of UnreachableError.

        ``_translate`` has to convert it.
        """
        stored = storage.put(record(KEY, "x", run_id="r"))
        storage.store_blob(KEY, BLOB_NAME, BLOB_BYTES)
        with during(outage):
            for _ in range(2):
                with pytest.raises(UnreachableError) as caught:
                    OPERATIONS[operation](storage)
                if operation in READS:
                    assert not isinstance(caught.value, OutcomeUnknownError), "nothing was being written"
        assert again(lambda: storage.get(KEY), self.deadline) == stored
        assert _read_blob(storage) == BLOB_BYTES

    def test_an_outage_while_a_blob_is_read_is_no_loss(self, storage: RecordStorage, outage: Outage | None) -> None:
        """A part that is temporarily unavailable is reported as lost."""
        data = os.urandom(4 * len(BLOB_BYTES))
        storage.store_blob(KEY, BLOB_NAME, data)
        with storage.retrieve_blob(KEY, BLOB_NAME) as file:
            found = file.read(1)
            with during(outage):
                try:
                    found += file.read()
                except UnreachableError:
                    found = data  # reported as it should be; data that was read ahead may also suffice
        assert found == data
        assert again(lambda: _read_blob(storage), self.deadline) == data

    def test_an_outage_while_a_blob_is_written_tears_nothing(
        self, storage: RecordStorage, outage: Outage | None
    ) -> None:
        """A blob is torn or lost: a part was not stored, and no error raised."""
        storage.store_blob(KEY, BLOB_NAME, BLOB_BYTES)
        require_fixture(outage, "outage", "faults")
        away = ExitStack()
        begun: list[bool] = []

        class CutOff(io.BytesIO):
            """Loses the server after half of the data, until the next read."""

            def read(self, size: int | None = -1) -> bytes:
                if begun:
                    away.close()
                elif self.tell() > len(self.getvalue()) // 2:
                    begun.append(True)
                    away.enter_context(during(outage))
                return super().read(size)

        data, stored = os.urandom(8 << 20), BLOB_BYTES
        with away, suppress(UnreachableError):
            storage.store_blob(KEY, BLOB_NAME, CutOff(data))
            stored = data  # reported as stored: the outage did not affect it, or the bytes were buffered
        assert again(lambda: _read_blob(storage), self.deadline) == stored

    def test_a_write_is_repeated_after_an_outage(self, storage: RecordStorage, outage: Outage | None) -> None:
        """A repeated write conflicts with its first try, or is stored twice."""
        mine = record(KEY, "mine")
        with during(outage), pytest.raises(UnreachableError):
            storage.put(mine, if_revision=0)
        stored = again(lambda: storage.put(mine, if_revision=0), self.deadline)
        assert storage.get(KEY).revision == stored.revision
        assert pipeline.decode(storage.get(KEY)) == "mine"

    def test_threads_neither_hang_nor_leak(self, storage: RecordStorage, outage: Outage | None) -> None:
        """An outage under load makes threads hang, or leaks pooled connections."""
        storage.put(record(KEY, "x"))

        def fail(barrier: Any, worker: int) -> int:
            barrier.wait()
            failures = 0
            for _ in range(3):
                try:
                    storage.get(KEY)
                except UnreachableError:
                    failures += 1
            return failures

        def work(barrier: Any, worker: int) -> str:
            barrier.wait()
            again(lambda: storage.store("flow", "worker", str(worker), worker), self.deadline)
            return str(pipeline.decode(again(lambda: storage.get(KEY), self.deadline)))

        with during(outage):
            failures = in_threads(fail, self.deadline)
        assert failures == [3] * len(failures)
        found = in_threads(work, self.deadline)
        assert found == ["x"] * len(found)
