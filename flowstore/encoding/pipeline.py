"""Encoding values to records, and decoding them.

A record's headers name how its value was encoded, and decoding follows them. So stored records stay readable whatever
the configuration says later. Only what must never come from stored data is set on the pipeline: the keys, and whether
pickled values may be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from os import urandom
from time import time
from typing import Any, BinaryIO, Final

from flowstore.encoding import serialize
from flowstore.encoding.codec import DEFAULT_DECODE_LIMIT, Codecs, Compression, Encryption, SealedFile
from flowstore.encoding.serialize import CONTENT_TYPES, ConvertedPaths
from flowstore.encoding.stream import BinaryReader
from flowstore.errors import CorruptError
from flowstore.record import FORMAT, Record, Ref
from flowstore.record.failure import Failure, RemoteTaskError

_CODED: Final = "application/octet-stream"


class Pipeline:
    """Encode the values of a storage to records, and decode them.

    Thread-safe and fork-safe.

    Args:
        serializer: ``json``, ``msgpack`` or ``pickle``. Tables are written as Arrow with any of them, if it is
            installed. ``pickle`` writes plain JSON values as JSON; only with it pickled values are loaded.
        compression: compresses new payloads. Compressed payloads are read without it too.
        encryption: encrypts new payloads, and holds the keys to decrypt stored ones.
        strict: refuse values that would come back as another type.
        decode_limit: bytes of memory that decoding a compressed value may take, as estimated beforehand.
    """

    def __init__(
        self,
        serializer: serialize.Serializer = "json",
        *,
        compression: Compression | None = None,
        encryption: Encryption | None = None,
        strict: bool = False,
        decode_limit: int = DEFAULT_DECODE_LIMIT,
    ) -> None:
        self._dumps = serialize.WRITERS[serializer]
        self._loads = partial(serialize.loads, pickled=True) if serializer == "pickle" else serialize.loads
        self._strict = strict
        self._codecs = Codecs(compression, encryption, decode_limit)
        self._encodes = compression is not None or encryption is not None
        self._encrypts = self._refuses_plain = False
        if encryption is not None:
            self._encrypts, self._refuses_plain = True, encryption.required

    def encode(self, ref: Ref, value: object, facts: Mapping[str, Any] | None = None) -> Record:
        """Build the record that stores a value.

        Args:
            ref: the record's reference.
            value: anything that the serializer supports; not changed. The header ``flattened`` lists the paths of
                parts that will come back as another type.
            facts: additional headers, JSON-serializable. They are never encrypted.

        Returns:
            A record with revision 0. Its ``token`` is new with each call: it identifies this write when it is retried.

        Raises:
            SerializationError: the value can't be stored.
        """
        if self._strict:
            return self._record(ref, *self._dumps(value, None), facts)
        converted = ConvertedPaths()
        payload, serializer = self._dumps(value, converted)
        if converted.count:
            # Paths contain keys of the value, and headers are not encrypted.
            facts = {**(facts or {}), "flattened": ["…"] if self._encrypts else converted.shown()}
        return self._record(ref, payload, serializer, facts)

    def encode_bytes(self, ref: Ref, data: bytes, facts: Mapping[str, Any] | None = None) -> Record:
        """Build the record that stores bytes as they are, with any serializer.

        ``decode`` returns the bytes.
        """
        return self._record(ref, data, serialize.RAW, facts)

    def _record(self, ref: Ref, payload: bytes, serializer: str, facts: Mapping[str, Any] | None) -> Record:
        content_type = CONTENT_TYPES[serializer]
        coding: Mapping[str, Any] | None = None
        if self._encodes:
            payload, coding = self._codecs.encode(ref, serializer, payload)
            if coding:
                content_type = _CODED
        headers = {
            "format": FORMAT,
            "serializer": serializer,
            "content_type": content_type,
            "size": len(payload),
            "digest": blake2b(payload, digest_size=16).hexdigest(),
            "token": urandom(8).hex(),
            "stored_at": time(),
        }
        if coding:
            headers.update(coding)
        if facts:
            headers.update(facts)
        return Record(ref, payload, headers)

    def decode(self, record: Record) -> Any:
        """Return the value of a record, a new object with every call.

        Raises:
            CorruptError: the payload is damaged, was copied from another record, or can't be read with the available
                keys and packages. Nothing was loaded that the storage does not allow.
        """
        headers, payload = record.headers, record.payload
        if (
            "codecs" in headers
            or self._refuses_plain
            or headers.get("format") != FORMAT
            or headers.get("digest") != blake2b(payload, digest_size=16).hexdigest()
        ):
            payload = self._serialized(record)
        return self._loads(payload, headers.get("serializer"))

    def _serialized(self, record: Record) -> bytes:
        """Return the payload without its codecs."""
        headers, payload = record.headers, record.payload
        if headers.get("format") != FORMAT:
            raise CorruptError(
                f"{record.ref} has the record format {headers.get('format')!r}; "
                f"this version of flowstore reads {FORMAT}"
            )
        if headers.get("digest") != blake2b(payload, digest_size=16).hexdigest():
            raise CorruptError(f"the stored payload of {record.ref} does not match its digest")
        if "codecs" in headers or self._refuses_plain:
            return self._codecs.decode(record)
        return payload

    def encode_file(self, ref: Ref, file: BinaryReader, headers: dict[str, Any]) -> SealedFile | None:
        """Return the encrypted form of a blob's file, and add its headers.

        Returns:
            The encrypted file, whose ``plain_size`` counts the bytes read; ``None`` if the storage does not encrypt.
        """
        return self._codecs.encode_file(ref, file, headers)

    def decode_file(self, record: Record, file: BinaryIO) -> BinaryIO:
        """Return the original file of a blob, to be read once.

        Closing it closes the stored file.

        Raises:
            CorruptError: the key is not available. Reading raises this too if the file was changed.
        """
        return self._codecs.decode_file(record, file)

    def as_json(self, record: Record) -> bytes:
        """Return the value of a record as JSON text.

        Other types are tagged as docs/records.md describes.

        Raises:
            CorruptError: as ``decode``.
            SerializationError: the value has no JSON form, or is pickled: it is not loaded to be shown.
        """
        return serialize.dumps_shown(self._serialized(record), record.headers.get("serializer", ""))

    def same(self, one: Record, other: Record) -> bool:
        """Return whether two records hold the same value, serialized alike.

        Returns False if one of them can't be read.
        """
        if one.headers.get("digest") == other.headers.get("digest"):
            return True
        if "codecs" not in one.headers and "codecs" not in other.headers:
            return False
        try:
            payloads = self._serialized(one), self._serialized(other)
        except CorruptError:
            return False
        return payloads[0] == payloads[1] and one.headers.get("serializer") == other.headers.get("serializer")

    def encode_error(self, ref: Ref, exc: BaseException, facts: Mapping[str, Any]) -> Record:
        """Build the record of an error.

        Headers are not encrypted, so with encryption the header ``error`` contains only the exception's type.

        Args:
            facts: additional headers. ``node_args``, the task's arguments, may be anything; they are kept as text.
        """
        headers = {"state": "FAILURE", **facts}
        if self._encrypts and "error" in headers:
            headers["error"] = type(exc).__name__
        return self.encode(ref, Failure.of(exc, headers.pop("node_args", None)).to_dict(), headers)

    def decode_error(self, record: Record) -> RemoteTaskError:
        """Decode the record of an error.

        Raises:
            CorruptError: as ``decode``, or the record holds something else.
        """
        value = self.decode(record)
        try:
            failure = Failure.from_dict(value)
        except (KeyError, TypeError) as exc:
            raise CorruptError(f"{record.ref} does not hold a failure") from exc
        return RemoteTaskError(failure, record.key, dict(record.headers))


DEFAULT_PIPELINE: Final = Pipeline()
"""The pipeline of a storage without options: JSON, neither compressed nor encrypted."""

encode = DEFAULT_PIPELINE.encode
decode = DEFAULT_PIPELINE.decode
encode_error = DEFAULT_PIPELINE.encode_error
decode_error = DEFAULT_PIPELINE.decode_error
