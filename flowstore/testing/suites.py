"""The two test suites, each with the aspects that an adapter must prove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flowstore.storage import RecordStorage
from flowstore.testing.aspects.addresses import AddressTests, KeyTests
from flowstore.testing.aspects.batches import BatchTests
from flowstore.testing.aspects.blobs import BlobTests
from flowstore.testing.aspects.capabilities import CapabilityTests
from flowstore.testing.aspects.claims import ClaimTests, ProcessClaimTests, ThreadClaimTests
from flowstore.testing.aspects.contents import ContentTests
from flowstore.testing.aspects.damaged import DamageTests
from flowstore.testing.aspects.expiry import ExpiryTests, ServerClockTests
from flowstore.testing.aspects.faults import FaultTests, FaultValueTests
from flowstore.testing.aspects.fields import FieldTests
from flowstore.testing.aspects.large_batches import LargeBatchTests
from flowstore.testing.aspects.lifecycle import LifecycleTests
from flowstore.testing.aspects.listing import ListingTests
from flowstore.testing.aspects.lost_answers import LostAnswerTests
from flowstore.testing.aspects.lost_updates import ExecutionTests, LostUpdateTests
from flowstore.testing.aspects.processes import ForkRecordTests, ForkTests, ProcessTests, ProcessValueTests
from flowstore.testing.aspects.queries import QueryTests
from flowstore.testing.aspects.records import ErrorRecordTests, RecordTests, RevisionTests
from flowstore.testing.aspects.sizes import RawTests, SizeTests
from flowstore.testing.aspects.threads import ThreadTests, ThreadValueTests
from flowstore.testing.aspects.upkeep import BystanderTests, CleanupTests, DeletionTests, EmptyingTests, LimitTests
from flowstore.testing.aspects.values import ErrorTests, InstanceTests, ValueTests
from flowstore.testing.base import Adapter


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
    """Tests for an adapter with only the six methods of ``DataStorage``."""

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
    LargeBatchTests,
    CapabilityTests,
    ListingTests,
    QueryTests,
    FieldTests,
    ExpiryTests,
    ServerClockTests,
    CleanupTests,
    LostUpdateTests,
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
    """Tests for a ``RecordStorage``."""

    @pytest.fixture
    def storage(self, adapter: Adapter) -> Iterator[RecordStorage]:
        with adapter.opened() as storage:
            yield storage
