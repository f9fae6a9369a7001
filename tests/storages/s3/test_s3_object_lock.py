"""Buckets that keep what they get for a time, and insist on a checksum with it."""

from __future__ import annotations

import io
import uuid
from typing import Any

import pytest

from flowstore.record import Key, Query
from tests.servers.s3 import Store
from tests.storages.s3.s3_kit import fresh, opened
from tests.storages.storage_kit import record

pytest_plugins = ("tests.storages.s3.s3_fixtures",)

KEY = Key("flow", "task", "1")


@pytest.fixture(params=["store", "emulation"])
def locked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A bucket with Object Lock and a default retention."""
    place: Store = request.getfixturevalue(request.param)
    bucket = f"locked-{uuid.uuid4().hex}"
    client = place.client()
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    locking = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=locking)
    client.close()
    return {**fresh(place), "bucket": bucket}


def test_records_come_and_go(locked: dict[str, Any]) -> None:
    with opened(locked) as storage:
        first = storage.put(record(KEY, "x", run_id="r"))
        storage.put(record(KEY, "y", run_id="r"), if_revision=first.revision)
        assert storage.retrieve("flow", "task", "1") == "y"
        storage.put_many([record(Key("flow", "task", str(number)), number) for number in range(2, 20)])
        assert storage.count(Query(flow_name="flow")) == 19
        assert storage.delete_task(KEY) == 1
        assert storage.delete_many([one.ref for one in storage.records(Query())]) == 18


@pytest.mark.parametrize("size", [10, 20 << 20])
def test_blobs_come_and_go(locked: dict[str, Any], size: int) -> None:
    with opened(locked) as storage:
        content = b"z" * size
        storage.store_blob(KEY, "b", io.BytesIO(content))
        with storage.retrieve_blob(KEY, "b") as file:
            assert file.read() == content
        assert storage.delete_blob(KEY, "b")
