"""Requests to a bucket, a method for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from flowstore.errors import ConfigurationError, StorageError, UnsupportedError

from .checksums import Checksums
from .errors import code_of, failed_condition, is_passing, translate
from .options import Options

MAX_SIZE: Final = 5 * 1024**3
"""Bytes that one request can store."""

_HEAD: Final = 8192
_BATCH: Final = 1000
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Body:
    """An object's first line at least, its full size, and its ETag."""

    data: bytes
    total: int
    etag: str


class Bucket:
    """A bucket. All methods may be called from several threads.

    Mutations are sent once: a condition that the first try has met would fail the second.
    """

    def __init__(self, options: Options) -> None:
        self.where = options.where
        self.options = options
        self.name = options.bucket
        self.stored_with = {
            name: value
            for name, value in (
                ("ServerSideEncryption", options.encryption),
                ("SSEKMSKeyId", options.kms_key_id),
            )
            if value is not None
        }
        self.checks = Checksums()
        with self._making():
            self.client = Session(
                aws_access_key_id=options.aws_access_key_id,
                aws_secret_access_key=options.aws_secret_access_key,
                aws_session_token=options.aws_session_token,
                profile_name=options.profile,
            ).client(
                "s3",
                region_name=options.region,
                endpoint_url=options.endpoint_url,
                use_ssl=options.use_ssl,
                verify=options.verify,
                config=Config(
                    connect_timeout=options.connect_timeout,
                    read_timeout=options.read_timeout,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    max_pool_connections=64,
                    s3={"addressing_style": options.addressing_style},
                    # Stores other than AWS's refuse, or don't understand, the checksums that newer clients add.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    @contextmanager
    def _making(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ValueError) as exc:
            if isinstance(exc, CredentialRetrievalError):
                raise StorageError(f"there are no credentials for {self.where} ({type(exc).__name__})") from exc
            raise ConfigurationError(f"{self.where} can't be used as configured: {exc}") from exc

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def look(self, prefix: str) -> str | None:
        """Return the server's date, or None if the bucket does not exist."""
        try:
            answer = self.ask("list_objects_v2", Prefix=prefix, MaxKeys=1)
        except StorageError as exc:
            if code_of(exc.__cause__) == "NoSuchBucket":
                return None
            raise
        return str(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))

    def create(self) -> None:
        """Create the bucket, versioned if the options say so."""
        region = self.client.meta.region_name
        place = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
        try:
            with self.request(mutates=True):
                self.client.create_bucket(Bucket=self.name, **({"CreateBucketConfiguration": place} if place else {}))
        except StorageError as exc:
            if code_of(exc.__cause__) != "BucketAlreadyOwnedByYou":
                raise
        if self.options.versioned:
            with self.request(mutates=True):
                self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def is_versioned(self) -> bool:
        """Return whether the bucket is versioned."""
        return bool(self.ask("get_bucket_versioning").get("Status") == "Enabled")

    def get(self, key: str, whole: bool) -> Body | None:
        """Return an object, or its first line at least; None if missing."""
        ranged = {} if whole else {"Range": f"bytes=0-{_HEAD - 1}"}
        try:
            answer = self.ask("get_object", Key=key, **ranged)
        except StorageError as exc:
            code = code_of(exc.__cause__)
            if code in ("NoSuchKey", "404"):
                return None
            if code == "InvalidRange" and not whole:
                return self.get(key, True)  # an empty object has no range
            raise
        data: bytes = answer["Body"]
        total = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else len(data)
        if b"\n" not in data and len(data) < total:
            return self.get(key, True)
        return Body(data, total, answer["ETag"])

    def put(
        self, key: str, data: bytes, *, content_type: str, if_match: str | None = None, if_absent: bool = False
    ) -> str | None:
        """Write an object; return its ETag, or None if the condition fails.

        Raises:
            UnsupportedError: the object is too large; nothing was sent.
        """
        if len(data) > MAX_SIZE:
            raise UnsupportedError(f"{self.where} can't store {len(data)} bytes at once: {MAX_SIZE} are the limit")
        condition = {"IfMatch": if_match} if if_match else {"IfNoneMatch": "*"} if if_absent else {}
        try:
            with self.request(mutates=True):
                answer = self.checks.send(
                    self.client.put_object,
                    data,
                    Bucket=self.name,
                    Key=key,
                    ContentType=content_type,
                    **condition,
                    **self.stored_with,
                )
        except StorageError as exc:
            if condition and failed_condition(exc.__cause__):
                return None
            raise
        etag: str = answer["ETag"]
        return etag

    def delete(self, key: str, if_match: str | None = None) -> bool:
        """Delete an object; return whether the condition held."""
        condition = {"IfMatch": if_match} if if_match else {}
        try:
            with self.request(mutates=True):
                self.client.delete_object(Bucket=self.name, Key=key, **condition)
        except StorageError as exc:
            if condition and failed_condition(exc.__cause__):
                return False
            raise
        return True

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete objects that may or may not exist."""
        for start in range(0, len(keys), _BATCH):
            objects = [{"Key": key} for key in keys[start : start + _BATCH]]
            with self.request(mutates=True):
                answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": objects, "Quiet": True})
            for error in answer.get("Errors", ()):
                raise StorageError(f"{self.where} did not delete {error.get('Key')}: {error.get('Code')}")

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Iterate over the keys with a prefix after another key, in order."""
        following = {"StartAfter": after} if after else {}
        while True:
            answer = self.ask("list_objects_v2", Prefix=prefix, **following)
            for entry in answer.get("Contents", ()):
                yield entry["Key"]
            if not answer.get("IsTruncated"):
                return
            following = {"ContinuationToken": answer["NextContinuationToken"]}

    def folders(self, prefix: str) -> list[str]:
        """Return the names between a prefix and the next slash."""
        found: list[str] = []
        following: dict[str, str] = {}
        while True:
            answer = self.ask("list_objects_v2", Prefix=prefix, Delimiter="/", **following)
            found += [entry["Prefix"][len(prefix) : -1] for entry in answer.get("CommonPrefixes", ())]
            if not answer.get("IsTruncated"):
                return found
            following = {"ContinuationToken": answer["NextContinuationToken"]}

    def ask(self, request: str, **parameters: Any) -> Any:
        """Send a read-only request; up to three times if the server is busy.

        Returns:
            The answer, with the body read.
        """
        try:
            return self._ask(request, parameters)
        except StorageError as exc:
            if not is_passing(exc):
                raise
        import tenacity  # on the first failure only

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_passing),
            stop=tenacity.stop_after_attempt(_TRIES - 1),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1),
            reraise=True,
        )
        return retrying(self._ask, request, parameters)

    def _ask(self, request: str, parameters: Mapping[str, Any]) -> Any:
        with self.request(mutates=False):
            answer = getattr(self.client, request)(Bucket=self.name, **parameters)
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()
            return answer

    @contextmanager
    def request(self, *, mutates: bool) -> Iterator[None]:
        """Translate the driver's exceptions."""
        try:
            yield
        except (ClientError, BotoCoreError) as exc:
            error = translate(exc, self.where, mutates)
            if error is None:
                raise
            raise error from exc
