from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError

from flowstore.record import Ref
from flowstore.storages import S3Storage
from flowstore.testing import StorageTests
from tests.servers import s3
from tests.servers.s3 import Store
from tests.storages.bystanders import Bystander, beside
from tests.storages.storage_races import ProcessRaces
from tests.storages.wrecks import Wrecked

pytest_plugins = ("tests.storages.s3.s3_fixtures",)


def look(store: Store, prefix: str) -> Callable[[Ref], bytes | None]:
    def payload(ref: Ref) -> bytes | None:
        with closing(store.client()) as client:
            answer = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{prefix}records/")
            for entry in answer.get("Contents", ()):
                if entry["Key"].endswith(ref.address.hex()):
                    try:
                        body: bytes = client.get_object(Bucket=s3.BUCKET, Key=entry["Key"])["Body"].read()
                    except ClientError:
                        return None
                    return body.partition(b"\n")[2]
        return None

    return payload


# A batch that several replace at once takes thousands of requests.
DEADLINE = 240.0


class TestS3(Wrecked, ProcessRaces, StorageTests):
    storage_class = S3Storage
    deadline = DEADLINE
    many_references = 300  # each is a request of its own

    @pytest.fixture
    def configuration(self, s3_configuration: dict[str, Any]) -> dict[str, Any]:
        return s3_configuration

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Bystander:
        return beside(("S3Storage", configuration))

    @pytest.fixture
    def raw_get(self, store: Store, configuration: dict[str, Any]) -> Callable[[Ref], bytes | None]:
        return look(store, configuration["prefix"])

    @pytest.fixture
    def outage(self, store: Store) -> Store | None:
        return store if store.server else None


@pytest.mark.each_time("lifecycle", "revisions", "expiry", "raw access")
class TestS3Emulation(Wrecked, StorageTests):
    """The contract alone: nothing that is seen here proves anything about races."""

    storage_class = S3Storage
    deadline = DEADLINE
    many_references = 300
    lacks: ClassVar = {
        "processes": "an emulation proves nothing about races",
        "faults": "the emulation keeps everything in memory",
    }

    @pytest.fixture
    def configuration(self, emulated_configuration: dict[str, Any]) -> dict[str, Any]:
        return emulated_configuration

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Bystander:
        return beside(("S3Storage", configuration))

    @pytest.fixture
    def raw_get(self, emulation: Store, configuration: dict[str, Any]) -> Callable[[Ref], bytes | None]:
        return look(emulation, configuration["prefix"])
