"""A value and the facts about it, to a record and back.

What was done to a value is told by its record's headers, and decoding is driven by them, so that what was stored stays
readable whatever the configuration says later. Only what must not come from data is the pipeline's own: the keys, and
whether pickled values may be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from os import urandom
from time import time
from typing import Any, BinaryIO, Final

from flowstore.encoding import serialize
from flowstore.encoding.codec import MOST, Codecs, Compression, Encryption, Readable, SealedFile
from flowstore.encoding.serialize import CONTENT_TYPES, Places
from flowstore.errors import CorruptError
from flowstore.record import FORMAT, Record, Ref
from flowstore.record.failure import Failure, RemoteTaskError

_CODED: Final = "application/octet-stream"


class Pipeline:
    """Encode the values of a storage to records, and decode them. Safe in threads, and after a fork.

    Args:
        serializer: how values are written: ``json``, ``msgpack`` or ``pickle``. Tables are written as Arrow, if it is
            installed, whichever is named. ``pickle`` writes plain JSON values as JSON, and is the only one with which
            pickled values are read.
        compression: compresses what is written; what is compressed already is read without it.
        encryption: encrypts what is written, and holds the keys to read what is encrypted.
        strict: whether a value that would come back as another type is refused.
        decode_limit: bytes of memory that reading a compressed value may take, as far as that can be told beforehand.
    """

    def __init__(
        self,
        serializer: serialize.Serializer = "json",
        *,
        compression: Compression | None = None,
        encryption: Encryption | None = None,
        strict: bool = False,
        decode_limit: int = MOST,
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
            ref: where it belongs.
            value: anything that the serializer has a form for; not changed. Where it will come back as another type is
                told by the header ``flattened``.
            facts: further headers, JSON-able. They are never encrypted.

        Returns:
            A record with revision 0. Its ``token`` is new with each call and marks this one write, so that a write that
            is tried again is told apart from somebody else's.

        Raises:
            SerializationError: the value can't be stored; nothing has been written.
        """
        if self._strict:
            return self._record(ref, *self._dumps(value, None), facts)
        places = Places()
        payload, serializer = self._dumps(value, places)
        if places.count:
            # A place names keys of the value, and headers are not encrypted.
            facts = {**(facts or {}), "flattened": ["…"] if self._encrypts else places.shown()}
        return self._record(ref, payload, serializer, facts)

    def encode_bytes(self, ref: Ref, data: bytes, facts: Mapping[str, Any] | None = None) -> Record:
        """Build the record that stores bytes as they are, whichever serializer is named; ``decode`` returns them."""
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
        """Return the value of a record: a new object with every call.

        Raises:
            CorruptError: the payload is damaged, was moved here from another record, or can't be read with the keys and
                packages that are here; nothing has been loaded that the storage does not allow.
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
        """Return the payload as the serializer wrote it."""
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

    def encode_file(self, ref: Ref, file: Readable, headers: dict[str, Any]) -> SealedFile | None:
        """Return a blob's file as it is to be stored, and add to its headers how to read it.

        Returns:
            The encrypted file, whose ``plain_size`` counts what was read; ``None`` where it is to be stored as it is.
        """
        return self._codecs.encode_file(ref, file, headers)

    def decode_file(self, record: Record, file: BinaryIO) -> BinaryIO:
        """Return the file of a blob as it was given, to be read once; closing it closes the stored file.

        Raises:
            CorruptError: it can't be read with the keys that are here; reading it raises this where it was changed.
        """
        return self._codecs.decode_file(record, file)

    def as_json(self, record: Record) -> bytes:
        """Return the value of a record as JSON text, in which other types are marked as docs/records.md tells.

        Raises:
            CorruptError: as ``decode``.
            SerializationError: it has no JSON form, or is pickled, and not loaded just to be shown.
        """
        return serialize.dumps_shown(self._serialized(record), record.headers.get("serializer", ""))

    def same(self, one: Record, other: Record) -> bool:
        """Tell whether two records hold the same value, written in the same way; one that can't be read does not."""
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
        """Build the record of an error; ``facts["node_args"]``, the task's arguments, may be anything: kept as text.

        Headers are not encrypted, so with encryption the header ``error`` is left with the exception's type.
        """
        headers = {"state": "FAILURE", **facts}
        if self._encrypts and "error" in headers:
            headers["error"] = type(exc).__name__
        return self.encode(ref, Failure.of(exc, headers.pop("node_args", None)).to_dict(), headers)

    def decode_error(self, record: Record) -> RemoteTaskError:
        """Read the record of an error.

        Raises:
            CorruptError: as ``decode``, or it holds something else.
        """
        value = self.decode(record)
        try:
            failure = Failure.from_dict(value)
        except (KeyError, TypeError) as exc:
            raise CorruptError(f"{record.ref} does not hold a failure") from exc
        return RemoteTaskError(failure, record.key, dict(record.headers))


PLAIN: Final = Pipeline()
"""Of a storage that names nothing: JSON, as it is."""

encode = PLAIN.encode
decode = PLAIN.decode
encode_error = PLAIN.encode_error
decode_error = PLAIN.decode_error
