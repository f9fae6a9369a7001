"""The bytes of blobs, seen with other tools than flowstore: in files, in objects, in GridFS."""

from __future__ import annotations

import io
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gridfs import GridFSBucket
from pymongo import MongoClient

from flowstore.errors import NotFoundError
from flowstore.record import Key
from flowstore.storage import PART
from flowstore.storages import FileStorage, MongoStorage, S3Storage
from tests.servers import s3
from tests.servers.s3 import Store

pytest_plugins = ("tests.storages.s3.s3_fixtures", "tests.storages.mongo.mongo_fixtures")

KEY = Key("flow", "task", "1")
BLOB = b"".join(os.urandom(1024) * 1024 for _ in range(17))


class Broken(io.BytesIO):
    """A file that ends with an error."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            raise OSError("gone")
        return data


def test_files(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "s"))
    storage.connect()
    storage.store_blob(KEY, "a", io.BytesIO(BLOB))
    [path] = (tmp_path / "s" / "blobs").glob("*/*/*")
    assert path.read_bytes() == BLOB
    assert path.stat().st_mode & 0o777 == 0o600
    with storage.retrieve_blob(KEY, "a") as file:
        assert file.read(10) == BLOB[:10]
        storage.store_blob(KEY, "a", b"x" * PART)
        assert not path.exists()
        assert file.read() == BLOB[10:], "an open file outlives its name"
    with pytest.raises(OSError, match="gone"):
        storage.store_blob(KEY, "a", Broken(BLOB))
    assert list((tmp_path / "s" / "tmp").iterdir()) == []
    foreign = path.parent / "notes.txt"
    foreign.write_text("somebody else's")
    storage.purge()
    assert [one for one in (tmp_path / "s" / "blobs").rglob("*") if one.is_file()] == [foreign]


def test_objects(store: Store, s3_configuration: dict[str, Any]) -> None:
    storage = S3Storage(**s3_configuration)
    storage.connect()
    prefix = f"{s3_configuration['prefix']}blobs/"
    with closing(store.client()) as client:
        storage.store_blob(KEY, "a", io.BytesIO(BLOB))
        [entry] = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=prefix)["Contents"]
        assert client.get_object(Bucket=s3.BUCKET, Key=entry["Key"])["Body"].read() == BLOB
        with pytest.raises(OSError, match="gone"):
            storage.store_blob(KEY, "b", Broken(BLOB))
        assert not client.list_multipart_uploads(Bucket=s3.BUCKET, Prefix=prefix).get("Uploads")
        # What a process leaves that dies while it uploads.
        key = f"{entry['Key'][:-32]}{'f' * 32}"
        upload = client.create_multipart_upload(Bucket=s3.BUCKET, Key=key)
        client.upload_part(Bucket=s3.BUCKET, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=BLOB)
        assert storage.remove_orphans() == 0
        # A server's time has whole seconds: it may take one until the upload is older than now.
        deadline = time.monotonic() + 10
        while not (removed := storage.remove_orphans(0)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert removed == 1
        assert not client.list_multipart_uploads(Bucket=s3.BUCKET, Prefix=prefix).get("Uploads")
    assert storage.retrieve_blob(KEY, "a").read() == BLOB
    storage.disconnect()


def test_gridfs(mongo_configuration: dict[str, Any]) -> None:
    storage = MongoStorage(**mongo_configuration)
    storage.connect()
    storage.store_blob(KEY, "a", io.BytesIO(BLOB))
    client: MongoClient[dict[str, Any]] = MongoClient(mongo_configuration["uri"])
    with client:
        database, name = client[mongo_configuration["db_name"]], f"{mongo_configuration['collection_name']}_blobs"
        [file] = database[f"{name}.files"].find()
        assert GridFSBucket(database, name).open_download_stream(file["_id"]).read() == BLOB
        with storage.retrieve_blob(KEY, "a") as stream:
            assert stream.read(PART) == BLOB[:PART]
        with pytest.raises(OSError, match="gone"):
            storage.store_blob(KEY, "b", Broken(BLOB))
        with pytest.raises(NotFoundError):
            storage.retrieve_blob(KEY, "b")
        assert database[f"{name}.chunks"].count_documents({}) == len(BLOB) // PART
        # What a process leaves that dies while it writes.
        database[f"{name}.chunks"].insert_one({"files_id": "f" * 32, "n": 0, "data": b"x", "written_at": storage.now()})
        foreign = GridFSBucket(database, name).upload_from_stream("notes.txt", b"somebody else's")
        assert storage.remove_orphans() == 0
        assert storage.remove_orphans(0) == 1
        storage.delete_blob(KEY, "a")
        assert [one["_id"] for one in database[f"{name}.files"].find()] == [foreign]
        assert database[f"{name}.chunks"].count_documents({}) == 1
    storage.disconnect()
