"""What the golden file of a record format holds, and how it was written.

    python -m tests.reliability.golden tests/reliability/records-1.jsonl

writes the file of the present format, once, when it is released: a file that exists is what older versions have
written, and stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from flowstore.copying import export_records
from flowstore.encoding.codec import Compression, Encryption
from flowstore.encoding.pipeline import Pipeline
from flowstore.errors import FlowstoreError
from flowstore.record import CHECKPOINT, CONFIGURATION, ERROR, HISTORY, RESULT, VARIABLE, Key, Record, Ref
from flowstore.storages import MemoryStorage

RING: Final = {"first": b"1" * 32, "second": b"2" * 32}
READER: Final = Pipeline("pickle", encryption=Encryption(RING, "second"))
"""Reads whatever any pipeline here has written."""

PIPELINES: Final = {
    "json": Pipeline(),
    "msgpack": Pipeline("msgpack"),
    "pickle": Pipeline("pickle"),
    "zstd": Pipeline(compression=Compression("zstd", min_size=0)),
    "gzip": Pipeline(compression=Compression("gzip", min_size=0)),
    "encrypted": Pipeline(encryption=Encryption(RING, "first")),
    "all": Pipeline("msgpack", compression=Compression("zstd", min_size=0), encryption=Encryption(RING, "second")),
}
VALUES: Final[dict[str, Any]] = {
    "none": None,
    "plain": {"rows": [{"sku": "apple", "price": 3.5}] * 10, "total": 35.0, "ok": True},
    "text": "ä\0\U0001f600 \n",
    "numbers": [0, -1, 2**62, -(2**62), 1e300, 0.1],
    "large number": 2**100,
    "datetime": datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),
    "date": date(2026, 2, 28),
    "uuid": UUID("12345678-1234-5678-1234-567812345678"),
    "decimal": Decimal("3.140"),
    "bytes": bytes(range(256)),
    "set": {1, 2, 3},
    "tuple": (1, ("a", None)),
    "keys": {1: "one", (2, 3): "pair", None: "none"},
}
FROM_THE_FUTURE: Final = {"from_the_future": {"nested": [1, None, "ä"]}}
"""A header that no version knows; it has to be kept."""

_KINDS: Final = {"checkpoint": CHECKPOINT, "variable": VARIABLE, "history": HISTORY, "configuration": CONFIGURATION}
_TIME: Final = 1772323199.5


def records() -> Iterator[tuple[Record, Any]]:
    """Yield what the file holds: each record with the value that has to come back."""
    for coding, pipeline in PIPELINES.items():
        for name, value in VALUES.items():
            yield _made(pipeline, Ref(RESULT, Key("golden", coding, name)), value), value
    for name, kind in _KINDS.items():
        yield _made(PIPELINES["json"], Ref(kind, Key("golden", "kinds", "1"), name), name), name


def error() -> Record:
    """Return the record of an error with a cause."""
    try:
        try:
            raise KeyError("apple")
        except KeyError as exc:
            raise FlowstoreError("no price") from exc
    except FlowstoreError as exc:
        made = PIPELINES["json"].encode_error(
            Ref(ERROR, Key("golden", "errors", "1")), exc, {"node_args": {"args": [1]}}
        )
    return _dated(made)


def _made(pipeline: Pipeline, ref: Ref, value: Any) -> Record:
    return _dated(pipeline.encode(ref, value, FROM_THE_FUTURE))


def _dated(record: Record) -> Record:
    return replace(record, headers={**record.headers, "stored_at": _TIME, "run_id": "golden", "token": "00" * 8})


def main() -> None:
    storage = MemoryStorage()
    storage.connect()
    storage.put_many([*(record for record, _ in records()), error()])
    with open(sys.argv[1], "xb") as file:
        print(export_records(storage, file))


if __name__ == "__main__":
    main()
