"""Records in an S3 bucket."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from flowstore.errors import ConfigurationError
from flowstore.record import Page, Query, Record, Ref
from flowstore.storage import Batches, ConnectedStorage, Content, Guarantees, NativeBlobs, RecordStorage, Source
from flowstore.storages.shared.mistakes import mistakes_of
from flowstore.storages.shared.names import Place

from .place import check_prefix, checked_region, endpoint_of

if TYPE_CHECKING:
    from .objects import Records

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_LARGEST: Final = 4 << 30


class S3Storage(ConnectedStorage["Records"], RecordStorage, Batches, NativeBlobs):
    """Keep each record in an object of its own, in a bucket of AWS or of a compatible store.

    An object's first line is JSON and tells what the record is; the payload follows as it is. Names of objects are
    hashes, below ``records/<kind>/`` behind the prefix. Objects of no bytes below ``index/`` list the records of each
    flow and run by time: such a listing does not go through the whole bucket, and reads only the records of its page.
    ``descending`` goes through all names of the flow or run first. Selecting by state, time, task or id alone reads
    each record of the kinds and flows that are asked for.

    What ``store`` has returned for is as durable as the store makes it; AWS keeps it in several places before it
    answers. A record is replaced as a whole: readers see the old or the new one. A first ``store`` takes two trips to
    the store, markers and record; replacing reads before it writes, and ``delete`` reads, writes and deletes.

    Revisions rest on conditional writes. Whether the store keeps to them is tried once in each process, with one small
    object that is deleted again. Where it does not, or the credentials may not write, ``if_revision`` raises
    ``UnsupportedError``, and of two who replace a record at once, one is lost. Where only deleting knows no conditions,
    a small object stays in the place of each record that is deleted one by one.

    A writer that dies may leave a marker without a record. It is passed over, and deleted by the next cleanup that
    finds it older than a day. Whatever else is in the bucket is left alone. Any number of threads and processes
    may use a bucket at once; a fork is met with new connections.

    Payloads over 64 MiB, and blobs, are objects of their own below ``blobs/``, uploaded in parts of 8 MiB and more. An
    upload of a process that died is ended by the next cleanup that finds it older than a day; for that, the credentials
    have to be allowed to list and to abort uploads.

    Args:
        bucket, bucket_name: the bucket's name.
        prefix: what the names of all objects begin with; ``flows/`` makes a folder of that name. It begins with no
            slash and has no empty, ``.`` or ``..`` parts, which stores take for different names.
        location, region, region_name: the region. Without, boto3 looks for it in its own places.
        endpoint_url, s3_endpoint: a store other than AWS. Without ``http://`` or ``https://``, ``use_ssl`` decides.
        use_ssl: encrypt the connection.
        verify: check the server's certificate; or the path of a file with those to trust.
        aws_access_key_id, aws_secret_access_key, aws_session_token: without, boto3 looks for credentials in its own
            places: the environment, its files, the machine's role.
        profile: the name of a profile in boto3's files.
        encryption: how the store encrypts what it keeps: ``AES256`` or ``aws:kms``; its own setting without, or with
            ``False``.
        kms_key_id: the key for ``aws:kms``.
        versioned: the bucket has to keep older versions of its objects; set when the bucket is created.
        create_bucket: create the bucket when connecting, if it does not exist.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds to wait for an answer.
        addressing_style: whether the bucket's name comes in the ``path`` or in the host's name (``virtual``).

    Raises:
        ConfigurationError: an argument is missing, is given twice, or is not one of the values above.
    """

    requires: ClassVar[tuple[str, ...]] = ("boto3",)
    extra: ClassVar[str | None] = "s3"
    guarantees: ClassVar[tuple[Guarantees, ...]] = (
        Guarantees(
            database="S3",
            shared_by="machines",
            process_ends="everything",
            server_crashes="what the store keeps; AWS everything",
            power_fails="what the store keeps; AWS everything",
            one_winner="yes, where the store has conditional writes, which is tried; else refused",
            clock="the server's",
            largest_record="5 GiB",
        ),
    )
    blob_threshold: int | None = 64 << 20

    def __init__(
        self,
        bucket: str | None = None,
        prefix: str = "",
        location: str | None = None,
        endpoint_url: str | None = None,
        use_ssl: bool = True,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        encryption: Literal["AES256", "aws:kms", False] | None = None,
        kms_key_id: str | None = None,
        versioned: bool = False,
        create_bucket: bool = False,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        addressing_style: Literal["auto", "path", "virtual"] = "auto",
        verify: bool | str = True,
        profile: str | None = None,
        bucket_name: str | None = None,
        region: str | None = None,
        s3_endpoint: str | None = None,
        region_name: str | None = None,
    ) -> None:
        super().__init__()
        name = _one_of(bucket=bucket, bucket_name=bucket_name)
        if name is None:
            raise ConfigurationError("bucket: the name of a bucket is needed")
        if not _BUCKET.fullmatch(name):
            raise ConfigurationError(f"bucket: {name!r} can't be the name of a bucket")
        check_prefix(prefix)
        encryption = encryption or None
        if encryption not in (None, "AES256", "aws:kms"):
            raise ConfigurationError(f"encryption must be AES256 or aws:kms, not {encryption!r}")
        if kms_key_id is not None and encryption != "aws:kms":
            raise ConfigurationError("kms_key_id is for encryption: aws:kms")
        if addressing_style not in ("auto", "path", "virtual"):
            raise ConfigurationError(f"addressing_style must be auto, path or virtual, not {addressing_style!r}")
        if (aws_access_key_id is None) != (aws_secret_access_key is None):
            raise ConfigurationError("aws_access_key_id and aws_secret_access_key belong together: one is missing")
        for what, seconds in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
            if not seconds > 0:
                raise ConfigurationError(f"{what} must be a number of seconds above 0, not {seconds!r}")
        self._prefix = prefix
        self._configuration: dict[str, Any] = {
            "bucket": name,
            "endpoint_url": endpoint_of(_one_of(endpoint_url=endpoint_url, s3_endpoint=s3_endpoint), use_ssl),
            "region": checked_region(_one_of(location=location, region=region, region_name=region_name)),
            "use_ssl": use_ssl,
            "verify": verify,
            "credentials": {
                "aws_access_key_id": aws_access_key_id,
                "aws_secret_access_key": aws_secret_access_key,
                "aws_session_token": aws_session_token,
                "profile_name": profile,
            },
            "connect_timeout": connect_timeout,
            "read_timeout": read_timeout,
            "addressing_style": addressing_style,
            "encryption": encryption,
            "kms_key_id": kms_key_id,
            "versioned": versioned,
            "create_bucket": create_bucket,
        }

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        return mistakes_of(cls, arguments)

    def describe(self) -> str:
        endpoint = self._configuration["endpoint_url"]
        where = "" if endpoint is None else f" at {endpoint.rpartition('://')[2].rpartition('@')[2]}"
        return f"S3{where}, bucket {self._configuration['bucket']!r}, prefix {self._prefix!r}"

    def preload(self) -> None:
        from . import objects as _s3_records  # noqa: F401

    def _open(self) -> Records:
        """Look into the bucket; create it if it does not exist and ``create_bucket`` is set.

        Raises:
            UnreachableError: the store can't be reached.
            StorageError: there is no such bucket, it is not versioned as expected, or there are no credentials that
                may list it.
        """
        from .bucket import Settings
        from .objects import open_records

        return open_records(Settings(**self._configuration), self._prefix)

    def now(self) -> float:
        return self._connection().clock.now()

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        return self._connection().get(ref, payload)

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        return self._connection().get_many(refs)

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return self._connection().put(record, if_revision, now)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        return self._connection().put_many(records, now)

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        return self._connection().add_many(records, now)

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        return self._connection().delete(ref, if_revision)

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        return self._connection().delete_many(refs)

    def _delete_seen(self, records: Sequence[Record]) -> int:
        return self._connection().delete_seen(records)

    def _purge(self) -> int:
        return self._connection().purge()

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return self._connection().scan(query, cursor, limit, payload)

    def _largest_payload(self) -> int | None:
        return _LARGEST

    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        self._connection().blobs.write(Place.of(ref), generation, source)
        return 1

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        return self._connection().blobs.read(Place.of(ref), generation)

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        self._connection().blobs.remove(Place.of(ref), generation)

    def _contents(self) -> Iterator[Content]:
        records = self._connection()
        for place, generation, written_at in records.blobs.all():
            delete = partial(records.blobs.remove, place, generation)
            yield Content(generation, written_at, partial(records.head, place), delete)
        for begun_at, end in records.blobs.unfinished():
            yield Content("", begun_at, lambda: None, end)


def _one_of(**given: str | None) -> str | None:
    """Return the one argument that is given, of several names for the same."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ConfigurationError(f"{' and '.join(names)} are the same: give one of them")
    return given[names[0]] if names else None
