"""Sizes at which databases change how they store, and huge ones."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from flowstore.errors import StorageError
from flowstore.record import RESULT, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.testing.base import AdapterTests, require_fixture
from flowstore.testing.samples import KEY, record

SIZES = [0, 1, 255, 256, 4095, 4096, 65_535, 65_536, 1 << 20, (1 << 20) + 1]
HUGE = 17 << 20
"""More than one document of MongoDB, or one packet of MySQL's default, may have."""


class SizeTests(AdapterTests):
    """A payload is stored or refused as a whole."""

    aspect = "sizes"

    def test_keeps_payloads_of_any_size(self, storage: RecordStorage) -> None:
        """A payload is cut or padded at a limit, or mixed with an older one."""
        for size in (*SIZES, *reversed(SIZES)):
            payload = os.urandom(size)
            storage.put(Record(Ref(RESULT, KEY), payload, {"size": size}))
            found = storage.get(KEY)
            assert (found.payload, found.headers["size"]) == (payload, size)
            assert storage.scan(Query(), payload=False).records == [
                Record(found.ref, b"", found.headers, found.revision)
            ]

    @pytest.mark.parametrize("threshold", ["as configured", None], ids=["as configured", "in the record itself"])
    def test_stores_a_huge_payload_or_refuses_it(self, storage: RecordStorage, threshold: str | None) -> None:
        """A too large payload raised a driver error, or the old record is lost."""
        if threshold is None:
            storage.blob_threshold = None  # nothing is kept apart from its record: the payload reaches ``_put``
        storage.put(record(KEY, "old"))
        payload = os.urandom(HUGE)
        try:
            storage.put(Record(Ref(RESULT, KEY), payload))
        except StorageError:
            assert storage.retrieve("flow", "task", "1") == "old"
        else:
            assert storage.get(KEY).payload == payload
        storage.put(record(KEY, "small again"))
        assert storage.retrieve("flow", "task", "1") == "small again"

    def test_keeps_large_headers(self, storage: RecordStorage) -> None:
        """Large headers are cut.

        A task that joins a large group has as many parents.
        """
        headers = {"run_id": "r", "parents": [[f"é{number:036}", "1"] for number in range(500)]}
        storage.put(Record(Ref(RESULT, KEY), b"1", headers))
        assert storage.get(KEY).headers == headers
        assert [one.headers for one in storage.records(Query(run_id="r"), payload=False)] == [headers]


class RawTests(AdapterTests):
    """Stored bytes, read without the adapter.

    That shows two mistakes that cancel each other out.
    """

    aspect = "raw access"

    @pytest.mark.parametrize(
        "payload", [b"", b'{"a": "\xc3\xa9"}', bytes(range(256)) * 300], ids=["empty", "json", "bytes"]
    )
    def test_stores_the_bytes_themselves(
        self, storage: RecordStorage, raw_get: Callable[[Ref], bytes | None] | None, payload: bytes
    ) -> None:
        """The adapter changes payloads when it writes, and back when it reads.

        Or it stored them nowhere.
        """
        look = require_fixture(raw_get, "raw_get", "raw access")
        ref = Ref(RESULT, KEY)
        content_type = "application/json" if payload.startswith(b"{") else None
        storage.put(Record(ref, payload, {"content_type": content_type}))
        assert look(ref) == payload
        storage.delete(KEY)
        assert look(ref) is None
