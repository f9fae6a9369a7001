"""The two suites: all aspects that an adapter has to prove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flowstore.storage import RecordStorage
from flowstore.testing.addresses import AddressTests
from flowstore.testing.base import Adapter
from flowstore.testing.batches import BatchTests
from flowstore.testing.blobs import BlobTests
from flowstore.testing.capabilities import CapabilityTests
from flowstore.testing.claims import ClaimTests, ProcessClaimTests, ThreadClaimTests
from flowstore.testing.contents import ContentTests
from flowstore.testing.damaged import DamageTests
from flowstore.testing.expiry import ExpiryTests, ServerClockTests
from flowstore.testing.faults import FaultTests, FaultValueTests
from flowstore.testing.lifecycle import LifecycleTests
from flowstore.testing.listing import ListingTests
from flowstore.testing.loads import LoadTests
from flowstore.testing.lost import LostAnswerTests
from flowstore.testing.overtaken import ExecutionTests, OvertakenTests
from flowstore.testing.processes import ForkRecordTests, ForkTests, ProcessTests, ProcessValueTests
from flowstore.testing.queries import FieldTests, QueryTests
from flowstore.testing.records import ErrorRecordTests, KeyTests, RecordTests, RevisionTests
from flowstore.testing.sizes import RawTests, SizeTests
from flowstore.testing.threads import ThreadTests, ThreadValueTests
from flowstore.testing.upkeep import BystanderTests, CleanupTests, DeletionTests, EmptyingTests, LimitTests
from flowstore.testing.values import ErrorTests, InstanceTests, ValueTests


class DataStorageTests(
    LifecycleTests,
    ValueTests,
    ErrorTests,
    InstanceTests,
    ThreadValueTests,
    ForkTests,
    ProcessValueTests,
    FaultValueTests,
):
    """What every adapter promises that has the six methods of ``DataStorage``."""

    @pytest.fixture
    def storage(self, adapter: Adapter) -> Iterator[Any]:
        with adapter.configured() as get:
            yield get()


class StorageTests(
    LifecycleTests,
    ValueTests,
    ErrorRecordTests,
    InstanceTests,
    RecordTests,
    RevisionTests,
    KeyTests,
    AddressTests,
    BatchTests,
    LoadTests,
    CapabilityTests,
    ListingTests,
    QueryTests,
    FieldTests,
    ExpiryTests,
    ServerClockTests,
    CleanupTests,
    OvertakenTests,
    ExecutionTests,
    DeletionTests,
    EmptyingTests,
    BystanderTests,
    LimitTests,
    ClaimTests,
    ThreadClaimTests,
    ProcessClaimTests,
    SizeTests,
    RawTests,
    BlobTests,
    ContentTests,
    ThreadTests,
    ForkRecordTests,
    ProcessTests,
    FaultTests,
    LostAnswerTests,
    DamageTests,
):
    """What every ``RecordStorage`` promises."""

    @pytest.fixture
    def storage(self, adapter: Adapter) -> Iterator[RecordStorage]:
        with adapter.opened() as storage:
            yield storage
