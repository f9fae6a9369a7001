"""The bytes of blobs and large payloads, in separate objects."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Final

from flowstore.errors import NotFoundError, StorageError, UnreachableError
from flowstore.storage import Source
from flowstore.storages.shared.names import Location

from .bucket import Bucket
from .errors import code_of

log = logging.getLogger(__name__)

_PART: Final = 8 << 20
"""Bytes of a part in memory. Later parts are larger: an upload can have 10,000 parts."""
_GROWS: Final = 1000
_NOT_SUPPORTED: Final = ("AccessDenied", "NotImplemented", "MethodNotAllowed")
_BYTES: Final = "application/octet-stream"
_NAME: Final = re.compile(r"([a-z0-9_-]+)/([0-9a-f]{16}-[0-9a-f]{64})\.([0-9a-f]{32})")

_Found = tuple[Location, str, float]
"""The place of an object's record, its generation, and when it was written."""


class BlobObjects:
    """The objects ``blobs/<kind>/<record's object>.<generation>``."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._folder = f"{prefix}blobs/"

    def write(self, place: Location, generation: str, source: Source) -> None:
        """Write an object as a whole or not at all, in parts if it is large."""
        key, data = self._key(place, generation), source.read(_PART)
        if len(data) < _PART:
            self._bucket.put(key, data, content_type=_BYTES)
            return
        upload = self._call("create_multipart_upload", Key=key, ContentType=_BYTES, **self._bucket.stored_with)
        the_upload = {"Key": key, "UploadId": upload["UploadId"]}
        parts: list[dict[str, Any]] = []
        try:
            while data:
                number = len(parts) + 1
                answer = self._part(data, PartNumber=number, **the_upload)
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
                data = source.read(_PART * (1 + number // _GROWS))
            self._call("complete_multipart_upload", MultipartUpload={"Parts": parts}, **the_upload)
        except BaseException as exc:
            # A silent server would take its full timeout again: the next cleanup aborts the upload.
            if not isinstance(exc, UnreachableError):
                with suppress(StorageError):  # the first error is the one to raise
                    self._call("abort_multipart_upload", **the_upload)
            raise

    def read(self, place: Location, generation: str) -> Generator[bytes, None, None]:
        """Yield an object's bytes; slow readers hold no connection open.

        Raises:
            NotFoundError: the object is missing.
        """
        key, start, total = self._key(place, generation), 0, 1
        while start < total:
            try:
                answer = self._bucket.ask("get_object", Key=key, Range=f"bytes={start}-{start + _PART - 1}")
            except StorageError as exc:
                if code_of(exc.__cause__) in ("NoSuchKey", "404"):
                    raise NotFoundError(f"the object {key} is missing in {self._bucket.where}") from exc
                raise
            data: bytes = answer["Body"]
            total = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else len(data)
            if not data:
                return
            start += len(data)
            yield data

    def remove(self, place: Location, generation: str) -> None:
        """Delete an object if it exists."""
        self._bucket.delete(self._key(place, generation))

    def all(self) -> Iterator[_Found]:
        """Iterate over all finished objects."""
        for entry in self._pages("list_objects_v2", "Contents", "ContinuationToken"):
            if found := self._found(entry["Key"], entry["LastModified"]):
                yield found

    def unfinished(self) -> Iterator[tuple[float, partial[Any]]]:
        """Iterate over unfinished uploads: their times, and functions to abort."""
        try:
            for entry in self._pages("list_multipart_uploads", "Uploads", "KeyMarker", "UploadIdMarker"):
                if found := self._found(entry["Key"], entry["Initiated"]):
                    yield found[2], partial(self._abort, entry["Key"], entry["UploadId"])
        except StorageError as exc:
            if code_of(exc.__cause__) not in _NOT_SUPPORTED:
                raise
            # The rest of a cleanup does not depend on it, and a rule of the bucket can abort them too.
            log.warning("can't delete unfinished uploads in %s: %s", self._bucket.where, exc)

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self._call("abort_multipart_upload", Key=key, UploadId=upload_id)
        except StorageError as exc:
            if code_of(exc.__cause__) != "NoSuchUpload":  # another cleanup was faster
                raise

    def _pages(self, request: str, field: str, *markers: str) -> Iterator[dict[str, Any]]:
        following: dict[str, str] = {}
        while True:
            answer = self._bucket.ask(request, Prefix=self._folder, **following)
            yield from answer.get(field, ())
            if not answer.get("IsTruncated"):
                return
            following = {name: answer[f"Next{name}"] for name in markers}

    def _found(self, key: str, at: datetime) -> _Found | None:
        # Other objects are not flowstore's to delete.
        found = _NAME.fullmatch(key[len(self._folder) :])
        return (Location(found[1], found[2]), found[3], at.timestamp()) if found else None

    def _call(self, request: str, **arguments: Any) -> Any:
        # Not a mutation for callers: nothing counts before a record points to it.
        with self._bucket.request(mutates=False):
            return getattr(self._bucket.client, request)(Bucket=self._bucket.name, **arguments)

    def _part(self, data: bytes, **arguments: Any) -> Any:
        with self._bucket.request(mutates=False):
            send = self._bucket.client.upload_part
            return self._bucket.checks.send(send, data, Bucket=self._bucket.name, **arguments)

    def _key(self, place: Location, generation: str) -> str:
        return f"{self._folder}{place.kind}/{place.name}.{generation}"
