"""Construct, connect, disconnect."""

from __future__ import annotations

import gc
import time

from flowstore.testing.base import Adapter, AdapterTests
from flowstore.testing.concurrency import in_threads
from flowstore.testing.secrets import secrets_in
from flowstore.testing.side_effects import descriptors, side_effects


class LifecycleTests(AdapterTests):
    """An adapter has no cost before it connects, and leaves nothing open."""

    aspect = "lifecycle"

    def test_constructor_does_no_io(self, adapter: Adapter) -> None:
        """The constructor does I/O, which belongs into ``connect``.

        A configuration is checked and shown where no server can be reached.
        """
        with side_effects() as actions:
            storage = adapter.make()
            connected = storage.is_connected()
        assert actions == [], "the constructor or is_connected() did I/O"
        assert not connected, "is_connected() must be false before connect()"

    def test_is_connected_does_no_io(self, adapter: Adapter) -> None:
        """``is_connected`` does I/O.

        It is called before each use: a round trip would double the cost of everything.
        """
        with adapter.opened() as storage:
            with side_effects() as actions:
                answers = [storage.is_connected() for _ in range(3)]
            assert actions == []
        assert answers == [True, True, True], "is_connected() must be true after connect()"

    def test_connects_on_first_use(self, adapter: Adapter) -> None:
        """The adapter is not connected when an application first needs it."""
        with adapter.configured() as get:
            get().store("flow", "task", "1", "x")
            assert get().retrieve("flow", "task", "1") == "x"
            assert get().is_connected()

    def test_disconnects_without_a_connection(self, adapter: Adapter) -> None:
        """An adapter that never connected can't be disconnected."""
        storage = adapter.make()
        storage.disconnect()
        storage.disconnect()
        assert not storage.is_connected()

    def test_connects_and_disconnects_repeatedly(self, adapter: Adapter) -> None:
        """An instance can't be connected again, or twice in a row."""
        storage = adapter.make()
        for number in range(3):
            storage.connect()
            storage.connect()
            assert storage.is_connected()
            storage.store("flow", "task", str(number), number)
            assert storage.retrieve("flow", "task", str(number)) == number
            storage.disconnect()
            storage.disconnect()
            assert not storage.is_connected()

    def test_leaks_no_descriptors(self, adapter: Adapter) -> None:
        """Reconnecting leaks sockets or files."""
        storage = adapter.make()

        def use(number: int) -> None:
            storage.store("flow", "task", str(number), "x")
            storage.retrieve("flow", "task", str(number))

        def cycle() -> None:
            storage.connect()
            use(0)
            if storage.thread_safe:
                # Only the adapter can close the connections of threads that have ended.
                in_threads(lambda barrier, worker: use(worker), self.deadline)
            storage.disconnect()

        cycle()  # modules and caches are loaded once
        before = len(descriptors())
        for _ in range(5):
            cycle()
        # A driver's own threads may close some time later, and what its objects hold in a circle goes with them.
        until = time.monotonic() + 10
        while len(descriptors()) > before and time.monotonic() < until:
            gc.collect()
            time.sleep(0.01)
        assert len(descriptors()) <= before

    def test_keeps_instances_with_the_same_configuration_working(self, adapter: Adapter) -> None:
        """Disconnecting an instance broke another one with equal configuration."""
        with adapter.opened() as storage:
            with adapter.opened() as other:
                other.store("flow", "task", "other", 1)
            storage.store("flow", "task", "1", "x")
            assert storage.retrieve("flow", "task", "1") == "x"

    def test_does_not_show_secrets(self, adapter: Adapter) -> None:
        """A password is in the adapter's ``repr``, which appears in logs."""
        with adapter.opened() as storage:
            storage.store("flow", "task", "1", "x")
            shown = f"{storage!r} {storage!s}"
        for secret in secrets_in(adapter.configuration):
            assert secret not in shown
