"""Records in an S3 bucket."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from flowstore.errors import ConfigurationError, ConflictError
from flowstore.record import Page, Query, Record, Ref
from flowstore.storage import Batches, ConnectedStorage, Content, Guarantees, NativeBlobs, RecordStorage, Source
from flowstore.storages.shared.mistakes import ChecksArguments
from flowstore.storages.shared.names import Location

from . import listing, objects
from .options import Options, checked_region, endpoint_of, one_of

if TYPE_CHECKING:
    from .connection import Connection

_LARGEST: Final = 4 << 30


class S3Storage(ChecksArguments, ConnectedStorage["Connection"], RecordStorage, Batches, NativeBlobs):
    """Keep each record in a separate object, in a bucket.

    An object's first line is JSON and describes the record; the payload follows unchanged. Names of objects are
    hashes, below ``records/<kind>/`` after the prefix. Empty objects below ``index/`` list the records of each
    flow and run by time: such a listing does not go through the whole bucket, and reads only the records of its page.
    ``descending`` goes through all names of the flow or run first. Selecting by state, time, task or id alone reads
    each record of the query's kinds and flows.

    What was stored is as durable as the store makes it; AWS keeps it in several places before it answers. A record is
    replaced as a whole: readers see the old or the new one. A first ``store`` takes two trips to the store, markers and
    record; replacing reads before it writes, and ``delete`` reads, writes and deletes.

    Revisions need conditional writes. Each process tries once whether the store honours them, with a small object that
    is deleted again. Where it does not, or the credentials may not write, ``if_revision`` raises
    ``UnsupportedError``, and of two who replace a record at once, one is lost. Where only deleting knows no conditions,
    a small object stays in the place of each record that is deleted one by one.

    A writer that dies may leave a marker without a record. It is ignored, and deleted by the next cleanup that
    finds it older than a day. Other objects in the bucket are left alone. Any number of threads and processes
    may use a bucket at once; a forked process opens new connections.

    Payloads over 64 MiB, and blobs, are separate objects below ``blobs/``, uploaded in parts of 8 MiB and more. An
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
        name = one_of(bucket=bucket, bucket_name=bucket_name)
        if name is None:
            raise ConfigurationError("bucket: the name of a bucket is needed")
        self._options = Options(
            bucket=name,
            prefix=prefix,
            region=checked_region(one_of(location=location, region=region, region_name=region_name)),
            endpoint_url=endpoint_of(one_of(endpoint_url=endpoint_url, s3_endpoint=s3_endpoint), use_ssl),
            use_ssl=use_ssl,
            verify=verify,
            aws_access_key_id=aws_access_key_id,
            aws_secret_access_key=aws_secret_access_key,
            aws_session_token=aws_session_token,
            profile=profile,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            addressing_style=addressing_style,
            encryption=encryption or None,
            kms_key_id=kms_key_id,
            versioned=versioned,
            create_bucket=create_bucket,
        )
        self._options.check()

    def describe(self) -> str:
        return self._options.describe()

    def preload(self) -> None:
        from . import connection  # noqa: F401

    def _open(self) -> Connection:
        from .connection import Connection

        return Connection(self._options)

    def _prepare(self, connection: Connection) -> None:
        connection.prepare()

    def now(self) -> float:
        return self._connection().clock.now()

    # Records

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        return objects.read_record(self._connection(), Location.of(ref), payload)

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        connection = self._connection()
        places = list(dict.fromkeys(map(Location.of, refs)))
        records = connection.each(lambda place: objects.read_record(connection, place, True), places)
        found = dict(zip(places, records, strict=True))
        return [found[Location.of(ref)] for ref in refs]

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        connection = self._connection()
        return objects.put(connection, record, if_revision, now, connection.each)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        connection = self._connection()
        return list(connection.each(lambda record: objects.put(connection, record, None, now, map), records))

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        connection = self._connection()

        def add(record: Record) -> bool:
            try:
                objects.put(connection, record, 0, now, map)
            except ConflictError:
                return False
            return True

        return list(connection.each(add, records))

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        return objects.delete(self._connection(), ref, if_revision)

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        connection = self._connection()
        places = list(dict.fromkeys(map(Location.of, refs)))
        found = [keys for keys in connection.each(lambda place: objects.keys_of(connection, place), places) if keys]
        connection.bucket.delete_many([key for key, _ in found])
        connection.bucket.delete_many([marker for _, markers in found for marker in markers])
        return len(found)

    def _delete_seen(self, records: Sequence[Record]) -> int:
        connection = self._connection()
        return sum(connection.each(lambda record: objects.delete_seen(connection, record), records))

    def _purge(self) -> int:
        return listing.purge(self._connection())

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return listing.scan(self._connection(), query, cursor, limit, payload)

    # Payloads in separate objects

    def _largest_payload(self) -> int | None:
        return _LARGEST

    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        self._connection().blobs.write(Location.of(ref), generation, source)
        return 1

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        return self._connection().blobs.read(Location.of(ref), generation)

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        self._connection().blobs.remove(Location.of(ref), generation)

    def _contents(self) -> Iterator[Content]:
        connection = self._connection()
        for place, generation, written_at in connection.blobs.all():
            delete = partial(connection.blobs.remove, place, generation)
            yield Content(generation, written_at, partial(objects.read_record, connection, place, False), delete)
        for begun_at, abort in connection.blobs.unfinished():
            yield Content("", begun_at, lambda: None, abort)
