"""Capabilities: an adapter implements what it declares."""

from __future__ import annotations

import pytest

from flowstore.storage import Batches, Capability, NativeBlobs, RecordStorage
from flowstore.testing.base import AdapterTests

METHODS: dict[type[Capability], tuple[str, ...]] = {
    Batches: ("_get_many", "_put_many", "_delete_many"),
    NativeBlobs: ("_write_content", "_read_content", "_delete_content", "_contents"),
}
"""What an adapter overrides that has a capability, all of it."""


class CapabilityTests(AdapterTests):
    """A capability is declared by a base class and proven by its aspect."""

    aspect = "capabilities"

    @pytest.mark.parametrize("capability", METHODS, ids=lambda capability: capability.__name__)
    def test_does_what_it_declares(self, storage: RecordStorage, capability: type[Capability]) -> None:
        """The adapter declares a capability without implementing it.

        The base class would do it one record at a time.
        """
        if not isinstance(storage, capability):
            return
        kind = type(storage)
        missing = [name for name in METHODS[capability] if getattr(kind, name) is getattr(RecordStorage, name)]
        assert not missing, f"{kind.__name__} is {capability.__name__}, and does not define {', '.join(missing)}"
