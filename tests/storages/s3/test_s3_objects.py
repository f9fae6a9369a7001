"""What is in the bucket, and what is not touched there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from flowstore.errors import CorruptError, NotFoundError
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storages import S3Storage
from flowstore.testing import HOSTILE, record
from tests.servers.s3 import BUCKET, Store
from tests.storages.s3.s3_kit import opened

pytest_plugins = ("tests.storages.s3.s3_fixtures",)

KEY = Key("f", "t", "1")
DAY = 86_400
NAME = "(result|0[0-9a-f]{64}|[a-z]+)"
PLACE = "[0-9a-f]{16}-[0-9a-f]{64}"


@pytest.fixture
def client(store: Store) -> Iterator[Any]:
    with closing(store.client()) as client:
        yield client


@pytest.fixture
def storage(s3_configuration: dict[str, Any]) -> Iterator[S3Storage]:
    with opened(s3_configuration) as storage:
        yield storage


@pytest.fixture
def prefix(s3_configuration: dict[str, Any]) -> str:
    return str(s3_configuration["prefix"])


def objects(client: Any, prefix: str) -> dict[str, bytes]:
    """Return all objects below a prefix, by the rest of their keys."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return {key[len(prefix) :]: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def write(client: Any, key: str, data: bytes) -> None:
    client.put_object(Bucket=BUCKET, Key=key, Body=data)


def record_of(client: Any, prefix: str) -> str:
    [key] = [key for key in objects(client, prefix) if key.startswith("records/")]
    return prefix + key


def test_an_object_is_a_line_about_the_record_and_the_payload(storage: S3Storage, client: Any, prefix: str) -> None:
    stored = storage.put(record(KEY, {"a": "é"}, run_id="r"))
    answer = client.get_object(Bucket=BUCKET, Key=record_of(client, prefix))
    line, _, payload = answer["Body"].read().partition(b"\n")
    about = json.loads(line)
    assert (about["kind"], about["flow_name"], about["task_name"], about["task_id"]) == (RESULT, "f", "t", "1")
    assert (about["revision"], about["headers"]["run_id"]) == (stored.revision, "r")
    assert json.loads(payload) == {"a": "é"}
    assert answer["ContentType"] == "application/x-ndjson"


def test_no_part_of_a_key_is_in_an_objects_key(storage: S3Storage, client: Any, prefix: str) -> None:
    parts = HOSTILE[::4]
    for part in parts:
        storage.put(record(Key(part, part, part), 1, name=part, run_id=part))
        storage.put(record(KEY, 1, kind=f"Kind {part}"))
    keys = list(objects(client, prefix))
    for pattern, count in (
        (rf"records/{NAME}/{PLACE}", 2 * len(parts)),
        (rf"index/flows/{NAME}/[0-9a-f]{{64}}/[0-9a-f]{{16}}\.{NAME}\.{PLACE}", 2 * len(parts)),
        (rf"index/runs/[0-9a-f]{{64}}/[0-9a-f]{{16}}\.{NAME}\.{PLACE}", len(parts)),
    ):
        assert len([key for key in keys if re.fullmatch(pattern, key)]) == count
    assert len(keys) == 5 * len(parts)


def test_leaves_nothing_behind(storage: S3Storage, client: Any, prefix: str) -> None:
    for _ in range(3):
        storage.put(record(KEY, 1, run_id="r"))
        storage.put(record(KEY, 1, name="x"), if_revision=None)
    assert len(objects(client, prefix)) == 5
    storage.delete(KEY)
    storage.put_many([record(Key("f", "t", str(number)), 1, run_id="r") for number in range(7)])
    storage.delete_many([one.ref for one in storage.records(Query())])
    assert objects(client, prefix) == {}


def test_a_lost_race_leaves_nothing_behind(storage: S3Storage, client: Any, prefix: str) -> None:
    storage.put(record(KEY, "first", run_id="r"))
    before = objects(client, prefix)
    with pytest.raises(Exception, match="expected was no record"):
        storage.put(record(KEY, "second", run_id="r"), if_revision=0)
    assert objects(client, prefix) == before


def test_deletes_more_than_one_request_can(storage: S3Storage, client: Any, prefix: str) -> None:
    storage.put_many([record(Key("f", "t", str(number)), 1, run_id="r") for number in range(1001)])
    assert storage.delete_many([one.ref for one in storage.records(Query(run_id="r"), payload=False)]) == 1001
    assert objects(client, prefix) == {}


@pytest.mark.parametrize("others", [("a", "a/"), ("", "records/"), ("", "index/"), ("", "records/result/"), ("é", "ê")])
def test_prefixes_are_apart(s3_configuration: dict[str, Any], others: tuple[str, str]) -> None:
    base = s3_configuration["prefix"]
    with (
        opened({**s3_configuration, "prefix": base + others[0]}) as one,
        opened({**s3_configuration, "prefix": base + others[1]}) as other,
    ):
        one.put(record(KEY, "one", run_id="r"))
        other.put(record(KEY, "other", run_id="r"))
        other.put(record(Key("f", "t", "2"), "other's own", run_id="r"))
        for query in (
            Query(),
            Query(run_id="r"),
            Query(flow_name="f"),
            Query(flow_name="f", task_name="t", task_id="1"),
        ):
            assert len(one.scan(query).records) == 1
        assert (one.retrieve("f", "t", "1"), other.retrieve("f", "t", "1")) == ("one", "other")
        with pytest.raises(NotFoundError):
            one.retrieve("f", "t", "2")
        assert one.delete_task(KEY) == 1
        assert len(list(other.records(Query()))) == 2


@pytest.mark.parametrize(
    "prefix", [" a b /", "a+b&c=d%2F?#", "é🍎/", "<x>&amp;\"'/", "x" * 200 + "/" + "y" * 200 + "/"]
)
def test_a_prefix_may_be_anything(s3_configuration: dict[str, Any], client: Any, prefix: str) -> None:
    whole = s3_configuration["prefix"] + prefix
    with opened({**s3_configuration, "prefix": whole}) as storage:
        storage.put(record(KEY, "x", run_id="r"))
        assert storage.retrieve("f", "t", "1") == "x"
        assert [one.key for one in storage.records(Query(run_id="r"))] == [KEY]
        assert [one.key for one in storage.records(Query())] == [KEY]
        assert len(objects(client, whole)) == 3
        assert storage.delete_task(KEY) == 1


def test_leaves_other_objects_alone(storage: S3Storage, client: Any, prefix: str) -> None:
    storage.put(record(KEY, "x", run_id="r"))
    marker = next(key for key in objects(client, prefix) if key.startswith("index/runs/"))
    others = {
        f"{prefix}{key}": b"somebody else's"
        for key in (
            "records/README",
            "records/result/README",
            "records/result/more/README",
            "index/flows/README",
            "index/flows/result/README",
            f"{marker.rpartition('/')[0]}/README",
            f"{marker}.bak",
            "readme",
        )
    }
    for key, data in others.items():
        write(client, key, data)
    assert [one.key for one in storage.records(Query())] == [KEY]
    assert [one.key for one in storage.records(Query(run_id="r"))] == [KEY]
    assert storage.delete_task(KEY) == 1
    assert storage.count(Query(expired_at=storage.now())) == 0
    assert {prefix + key: data for key, data in objects(client, prefix).items()} == others


def test_reads_no_more_than_it_has_to(storage: S3Storage, client: Any, prefix: str) -> None:
    storage.put(record(KEY, "mine", run_id="r"))
    storage.put(record(Key("f", "t", "2"), "another run's", run_id="other"))
    storage.put(record(Key("g", "t", "1"), "another flow's"))
    storage.put(record(KEY, "another kind", kind="error"))
    for key, data in objects(client, prefix).items():
        if b"another" in data:
            write(client, prefix + key, b"damaged")
    assert [one.key for one in storage.records(Query(run_id="r"))] == [KEY]
    of_the_key = Query(kinds=(RESULT,), flow_name="f", task_name="t", task_id="1")
    assert [one.key for one in storage.records(of_the_key)] == [KEY]
    assert [one.key for one in storage.records(Query(kinds=("run",), flow_name="f"))] == []
    page = storage.scan(Query(kinds=("error",)))
    assert (page.records, len(page.damaged)) == ([], 1)


def test_lists_only_what_a_query_is_about(storage: S3Storage) -> None:
    for number in range(3):
        storage.put(record(Key("f", "t", str(number)), 1, run_id="r"))
        storage.put(record(Key("g", "t", str(number)), 1))
    listed: list[str] = []
    client = storage._connection().bucket.client
    client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: listed.append(params["Prefix"])
    )
    list(storage.records(Query(run_id="r")))
    list(storage.records(Query(kinds=(RESULT,), flow_name="f")))
    assert len(listed) == 2
    assert "index/runs/" in listed[0]
    assert "index/flows/result/" in listed[1]


def test_reads_headers_without_the_payload(storage: S3Storage) -> None:
    storage.put(record(KEY, "x" * 1_000_000, run_id="r"))
    sizes: list[int] = []
    client = storage._connection().bucket.client
    client.meta.events.register("after-call.s3.GetObject", lambda parsed, **_: sizes.append(parsed["ContentLength"]))
    assert storage.get(KEY, payload=False).payload == b""
    assert [one.payload for one in storage.records(Query(run_id="r"), payload=False)] == [b""]
    assert max(sizes) < 10_000


def test_a_new_record_is_written_without_reading(storage: S3Storage) -> None:
    asked: list[str] = []
    client = storage._connection().bucket.client
    client.meta.events.register("provide-client-params.s3", lambda model, **_: asked.append(model.name))
    storage.put(record(KEY, 1))
    assert asked == ["PutObject", "PutObject"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"!",
        lambda data: b"\n" + data,
        lambda data: b"[]\n",
        lambda data: data.replace(b'"format":1', b'"format":2', 1),
        lambda data: data.replace(b'"task_id":"1"', b'"task_id":"2"', 1),
    ],
    ids=["empty", "cut line", "cut payload", "longer", "no line", "list", "newer format", "another record"],
)
def test_a_damaged_object_is_told_and_can_be_deleted(storage: S3Storage, client: Any, prefix: str, damage: Any) -> None:
    storage.put(record(KEY, "x"))
    key = record_of(client, prefix)
    write(client, key, damage(objects(client, prefix)[key.removeprefix(prefix)]))
    for payload in (True, False):
        with pytest.raises(CorruptError):
            storage.get(KEY, payload=payload)
    with pytest.raises(CorruptError):
        storage.delete(KEY, if_revision=1)
    assert storage.delete(KEY)
    with pytest.raises(NotFoundError):
        storage.get(KEY)


def test_a_marker_without_a_record_counts_for_nothing_and_goes_with_the_next_cleanup(
    storage: S3Storage, client: Any, prefix: str
) -> None:
    storage.put(record(KEY, "x", run_id="r"))
    markers = [key for key in objects(client, prefix) if key.startswith("index/")]
    written = re.compile(r"/[0-9a-f]{16}\.")
    old, young = (f"/{int((time.time() - age) * 1e9):016x}." for age in (2 * DAY, DAY / 2))
    for marker in markers:
        for stamp in (old, young):
            write(client, prefix + written.sub(stamp, marker), b"")
    for query in (Query(), Query(run_id="r"), Query(flow_name="f", kinds=(RESULT,))):
        assert storage.count(query) == 1
    assert storage.count(Query(expired_at=storage.now())) == 0
    assert storage.count(Query(expired_at=storage.now(), run_id="r")) == 0
    left = [key for key in objects(client, prefix) if key.startswith("index/")]
    assert sorted(left) == sorted([*markers, *(written.sub(young, marker) for marker in markers)])


def test_what_is_left_of_a_delete_is_no_record(storage: S3Storage, client: Any, prefix: str) -> None:
    storage.put(record(KEY, "x", run_id="r"))
    key = record_of(client, prefix)
    line = json.loads(objects(client, prefix)[key.removeprefix(prefix)].partition(b"\n")[0])
    write(client, key, json.dumps({**line, "revision": 0, "size": 0, "headers": {}}).encode() + b"\n")
    with pytest.raises(NotFoundError):
        storage.get(KEY)
    assert storage.get_many([Ref(RESULT, KEY)]) == [None]
    assert not storage.delete(KEY)
    assert storage.count(Query()) == storage.count(Query(flow_name="f", task_name="t", task_id="1")) == 0
    assert storage.put(record(KEY, "new", run_id="r"), if_revision=0).revision > line["revision"]
    assert storage.count(Query(run_id="r")) == 1
