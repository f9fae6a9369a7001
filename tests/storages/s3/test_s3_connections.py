"""What it takes to connect: a configuration, a bucket and credentials."""

from __future__ import annotations

import traceback
import uuid
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from flowstore import FlowStore
from flowstore.errors import ConfigurationError, StorageError, UnreachableError
from flowstore.storages import S3Storage
from tests.servers.s3 import BUCKET, Store
from tests.storages.s3.s3_kit import opened

pytest_plugins = ("tests.storages.s3.s3_fixtures",)

CANARY = "canary-c0ffee"


# Configuration


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the name of a bucket is needed"),
        ({"bucket": "one", "bucket_name": "two"}, "bucket and bucket_name are the same"),
        ({"bucket": "a/b"}, "'a/b' can't be the name"),
        ({"bucket": "one", "location": "x", "region": "y"}, "location and region"),
        ({"bucket": "one", "endpoint_url": "http://x", "s3_endpoint": "http://x"}, "endpoint_url and s3_endpoint"),
        ({"bucket": "one", "endpoint_url": "ftp://x"}, "http:// or https://"),
        ({"bucket": "one", "endpoint_url": f"http://user:{CANARY}@x"}, "credentials belong into"),
        ({"bucket": "one", "encryption": "DES"}, "AES256 or aws:kms"),
        ({"bucket": "one", "kms_key_id": "x"}, "kms_key_id is for"),
        ({"bucket": "one", "addressing_style": "x"}, "auto, path or virtual"),
        ({"bucket": "one", "aws_access_key_id": "x"}, "belong together"),
        ({"bucket": "one", "aws_secret_access_key": CANARY}, "belong together"),
        ({"bucket": "one", "connect_timeout": 0}, "connect_timeout must be"),
        ({"bucket": "one", "read_timeout": float("nan")}, "read_timeout must be"),
        ({"bucket": "one", "prefix": "é" * 351}, "702 bytes are too long"),
        ({"bucket": "one", "prefix": "/flows/"}, "write 'flows/'"),
        ({"bucket": "one", "prefix": "/"}, "begins with a slash"),
        ({"bucket": "one", "prefix": "a//b/"}, "an empty part"),
        ({"bucket": "one", "prefix": "./a/"}, "an empty part"),
        ({"bucket": "one", "prefix": "a/../b"}, "an empty part"),
        ({"bucket": "one", "prefix": "a\0/"}, "control characters"),
        ({"bucket": "one", "prefix": "a\x7f"}, "control characters"),
        ({"bucket": "one", "prefix": "\ud800"}, "UTF-8"),
        ({"bucket": "one", "location": "no such region"}, "the name of a region"),
        ({"bucket": "one", "region_name": "-x"}, "the name of a region"),
        ({"bucket": "one", "region": "x", "region_name": "y"}, "region and region_name"),
        ({"bucket": "one", "endpoint_url": "http://"}, "names no host"),
        ({"bucket": "one", "endpoint_url": "http://exa mple"}, "names no host"),
        ({"bucket": "one", "endpoint_url": "http://x:99999"}, "names no host"),
    ],
)
def test_refuses_what_it_can_not_use(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        S3Storage(**arguments)
    assert CANARY not in str(caught.value)


def test_what_it_can_not_use_shows_where_it_stands_before_anything_connects() -> None:
    configuration = {"bucket": "shop", "prefix": "/flows/"}
    entry = {"name": "S", "classname": "S3Storage", "configuration": configuration}
    with pytest.raises(ConfigurationError, match=r"storages\.0\.configuration\.prefix: '/flows/' begins with a slash"):
        FlowStore({"storages": [entry], "global": {"default_storage": "S"}})


def test_a_profile_that_is_not_there_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        S3Storage("bucket", profile="nowhere").connect()


@pytest.mark.parametrize("use_ssl", [True, False])
def test_takes_other_names_and_an_endpoint_without_a_scheme(s3_configuration: dict[str, Any], use_ssl: bool) -> None:
    place = {**s3_configuration, "use_ssl": use_ssl}
    name = "region" if use_ssl else "region_name"
    place["bucket_name"], place[name] = place.pop("bucket"), place.pop("location")
    place["s3_endpoint"] = urlsplit(place.pop("endpoint_url")).netloc
    if use_ssl:
        # The server speaks no TLS, which shows that it was tried.
        with pytest.raises(UnreachableError), opened(place):
            pass
    else:
        with opened(place) as storage:
            storage.store("f", "t", "1", 1)
            assert storage.retrieve("f", "t", "1") == 1


# Buckets


def buckets(store: Store) -> list[str]:
    with closing(store.client()) as client:
        return [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def test_a_missing_bucket_is_told_and_not_created(store: Store, s3_configuration: dict[str, Any]) -> None:
    before = buckets(store)
    for versioned in (False, True):
        storage = S3Storage(**{**s3_configuration, "bucket": "not-there", "versioned": versioned})
        with pytest.raises(StorageError, match=r"'not-there' .* does not exist; create it, or set create_bucket"):
            storage.connect()
        assert not storage.is_connected()
    assert buckets(store) == before


@pytest.mark.parametrize("versioned", [True, False])
def test_creates_a_bucket_when_told_to(store: Store, s3_configuration: dict[str, Any], versioned: bool) -> None:
    name = f"created-{uuid.uuid4()}"
    configuration = {**s3_configuration, "bucket": name, "create_bucket": True, "versioned": versioned}
    for _ in range(2):
        with opened(configuration) as storage:
            storage.store("f", "t", "1", 1)
            assert storage.retrieve("f", "t", "1") == 1
    with closing(store.client()) as client:
        assert client.get_bucket_versioning(Bucket=name).get("Status") == ("Enabled" if versioned else None)


def test_tells_that_a_bucket_is_not_versioned(s3_configuration: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="is not versioned"), opened({**s3_configuration, "versioned": True}):
        pass


def test_a_bucket_that_is_gone_is_no_miss(store: Store, s3_configuration: dict[str, Any]) -> None:
    name = f"gone-{uuid.uuid4()}"
    with opened({**s3_configuration, "bucket": name, "create_bucket": True}) as storage:
        with closing(store.client()) as client:
            client.delete_bucket(Bucket=name)
        for work in (lambda: storage.retrieve("f", "t", "1"), lambda: storage.store("f", "t", "1", 1)):
            with pytest.raises(StorageError, match="does not exist") as caught:
                work()
            assert not isinstance(caught.value, LookupError)


def test_encrypts_as_configured(emulation: Store, emulated_configuration: dict[str, Any]) -> None:
    encryption = {"encryption": "aws:kms", "kms_key_id": "a-key"}
    with opened({**emulated_configuration, **encryption}) as storage, closing(emulation.client()) as client:
        storage.store("f", "t", "1", 1)
        prefix = f"{emulated_configuration['prefix']}records/"
        [entry] = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
        answer = client.head_object(Bucket=BUCKET, Key=entry["Key"])
        assert answer["ServerSideEncryption"] == "aws:kms"
        assert answer["SSEKMSKeyId"].endswith("a-key")


# Credentials


@pytest.mark.parametrize("field", ["aws_access_key_id", "aws_secret_access_key"])
def test_wrong_credentials_are_told_and_not_shown(s3_configuration: dict[str, Any], field: str) -> None:
    storage = S3Storage(**{**s3_configuration, field: CANARY})
    with pytest.raises(StorageError, match="refuses") as caught:
        storage.connect()
    assert not isinstance(caught.value, UnreachableError)
    assert CANARY not in repr(storage) + "".join(traceback.format_exception(caught.value))


def test_settings_do_not_show_credentials(s3_configuration: dict[str, Any]) -> None:
    with opened(s3_configuration) as storage:
        shown = repr(storage) + repr(storage._connection().bucket.options)
    assert s3_configuration["aws_secret_access_key"] not in shown


def test_is_not_usable_while_disconnected(s3_configuration: dict[str, Any]) -> None:
    storage = S3Storage(**s3_configuration)
    with pytest.raises(StorageError, match="not connected"):
        storage.retrieve("f", "t", "1")
