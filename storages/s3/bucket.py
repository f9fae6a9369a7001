"""Requests to a bucket, one method each, and what their failures mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from flowstore.errors import ConfigurationError, StorageError, UnsupportedError

from .checksums import Checksums
from .errors import asks_again, code_of, failed_condition, translate

MAX_SIZE: Final = 5 * 1024**3
"""Bytes that one request can store."""

_HEAD: Final = 8192
_BATCH: Final = 1000
_TRIES: Final = 3


@dataclass(frozen=True)
class Settings:
    """How to reach a bucket, and how its objects are kept."""

    bucket: str
    endpoint_url: str | None
    region: str | None
    use_ssl: bool
    verify: bool | str
    credentials: Mapping[str, str | None] = field(repr=False)
    connect_timeout: float
    read_timeout: float
    addressing_style: str
    encryption: str | None
    kms_key_id: str | None
    versioned: bool
    create_bucket: bool

    @property
    def where(self) -> str:
        """What messages call the bucket."""
        return f"the bucket {self.bucket!r} at {self.endpoint_url or 'AWS'}"


@dataclass(frozen=True, slots=True)
class Body:
    """An object's bytes, or the first of them; how many the whole has; and its ETag."""

    data: bytes
    total: int
    etag: str


class Bucket:
    """A bucket, used by one process. All methods may be called from several threads.

    What changes something is sent once: a condition that a first try has fulfilled would fail a second one.
    """

    def __init__(self, settings: Settings) -> None:
        self.where = settings.where
        self.settings = settings
        self.name = settings.bucket
        self.stored_with = {
            name: value
            for name, value in (
                ("ServerSideEncryption", settings.encryption),
                ("SSEKMSKeyId", settings.kms_key_id),
            )
            if value is not None
        }
        self.checks = Checksums()
        with self._making():
            self.client = Session(**settings.credentials).client(
                "s3",
                region_name=settings.region,
                endpoint_url=settings.endpoint_url,
                use_ssl=settings.use_ssl,
                verify=settings.verify,
                config=Config(
                    connect_timeout=settings.connect_timeout,
                    read_timeout=settings.read_timeout,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    max_pool_connections=64,
                    s3={"addressing_style": settings.addressing_style},
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
        """Look into the bucket; return the server's date, or ``None`` if there is no such bucket."""
        try:
            answer = self.ask("list_objects_v2", Prefix=prefix, MaxKeys=1)
        except StorageError as exc:
            if code_of(exc.__cause__) == "NoSuchBucket":
                return None
            raise
        return str(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))

    def create(self) -> None:
        """Create the bucket, with versions if that is what is expected."""
        region = self.client.meta.region_name
        place = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
        try:
            with self.request(mutates=True):
                self.client.create_bucket(Bucket=self.name, **({"CreateBucketConfiguration": place} if place else {}))
        except StorageError as exc:
            if code_of(exc.__cause__) != "BucketAlreadyOwnedByYou":
                raise
        if self.settings.versioned:
            with self.request(mutates=True):
                self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    def is_versioned(self) -> bool:
        """Tell whether the bucket keeps older versions of its objects."""
        return bool(self.ask("get_bucket_versioning").get("Status") == "Enabled")

    def get(self, key: str, whole: bool) -> Body | None:
        """Read an object, or its first line at least; return ``None`` if there is none."""
        ranged = {} if whole else {"Range": f"bytes=0-{_HEAD - 1}"}
        try:
            answer = self.ask("get_object", Key=key, **ranged)
        except StorageError as exc:
            code = code_of(exc.__cause__)
            if code in ("NoSuchKey", "404"):
                return None
            if code == "InvalidRange" and not whole:
                return self.get(key, True)  # an object of no bytes has no range
            raise
        data: bytes = answer["Body"]
        total = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else len(data)
        if b"\n" not in data and len(data) < total:
            return self.get(key, True)
        return Body(data, total, answer["ETag"])

    def put(
        self, key: str, data: bytes, *, content_type: str, if_match: str | None = None, if_absent: bool = False
    ) -> str | None:
        """Write an object and return its ETag, or ``None`` if the condition does not hold.

        Raises:
            UnsupportedError: it is too large; nothing was sent.
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
        """Delete an object; tell whether the condition held."""
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
        """Delete objects, whether they are there or not."""
        for start in range(0, len(keys), _BATCH):
            objects = [{"Key": key} for key in keys[start : start + _BATCH]]
            with self.request(mutates=True):
                answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": objects, "Quiet": True})
            for error in answer.get("Errors", ()):
                raise StorageError(f"{self.where} did not delete {error.get('Key')}: {error.get('Code')}")

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Go through the keys that begin with a prefix and follow another key, in the order of their bytes."""
        following = {"StartAfter": after} if after else {}
        while True:
            answer = self.ask("list_objects_v2", Prefix=prefix, **following)
            for entry in answer.get("Contents", ()):
                yield entry["Key"]
            if not answer.get("IsTruncated"):
                return
            following = {"ContinuationToken": answer["NextContinuationToken"]}

    def folders(self, prefix: str) -> list[str]:
        """Return what stands between a prefix and the next slash."""
        found: list[str] = []
        following: dict[str, str] = {}
        while True:
            answer = self.ask("list_objects_v2", Prefix=prefix, Delimiter="/", **following)
            found += [entry["Prefix"][len(prefix) : -1] for entry in answer.get("CommonPrefixes", ())]
            if not answer.get("IsTruncated"):
                return found
            following = {"ContinuationToken": answer["NextContinuationToken"]}

    def ask(self, request: str, **parameters: Any) -> Any:
        """Send a request that changes nothing; again, up to three times in all, when the server asks for that.

        Returns:
            the answer; an object's body in it has been read.
        """
        try:
            return self._ask(request, parameters)
        except StorageError as exc:
            if not asks_again(exc):
                raise
        import tenacity  # on the first failure only

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(asks_again),
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
        """Turn what the client raises inside into flowstore's errors."""
        try:
            yield
        except (ClientError, BotoCoreError) as exc:
            error = translate(exc, self.where, mutates)
            if error is None:
                raise
            raise error from exc
