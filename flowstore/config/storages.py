"""The entries of ``storages``: checked, and read into ``StorageEntry``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final, Protocol, get_args

from flowstore.config import selinon
from flowstore.config.document import Document, Fields, Node, Path, ScalarNode, children, is_usable, to_data
from flowstore.config.mistakes import did_you_mean
from flowstore.config.model import PATIENCE, CacheEntry, StorageEntry, StoreErrorPolicy
from flowstore.config.secrets import file_of, read_secret
from flowstore.config.shapes import (
    AnyShape,
    CacheShape,
    CompressionShape,
    EncryptionShape,
    PatienceShape,
    StorageShape,
)
from flowstore.encoding.codec import AES, KEY_BYTES, LEVELS, PACKAGES, Compression, CompressionCodec, Encryption

_MAKE_KEY: Final = "Make one with: openssl rand -base64 32."
_URL_SAFE: Final = str.maketrans("-_", "+/")


class Shaped(Protocol):
    """Return what is at a path in a shape, or None; report its mistakes."""

    def __call__(self, shape: type[AnyShape], path: Path) -> AnyShape | None: ...


def read_storage(document: Document, path: Path, shaped: Shaped) -> StorageEntry | None:
    """Return the storage entry at a path, or None; report its mistakes."""
    shape = shaped(StorageShape, path)
    if shape is None:
        return None
    policy, patience = _store_error(document, (*path, "on_store_error"), shaped)
    entry = StorageEntry(
        name=shape.name,
        classname=shape.classname or shape.name,
        module=shape.module,
        configuration=shape.configuration or {},
        on_store_error=policy,
        patience=patience,
        on_conflict=shape.on_conflict,
        history=shape.history,
        cache=_cache(document, (*path, "cache"), shaped),
        expires=shape.expires,
        allow_clear=shape.allow_clear,
        max_result_size=shape.max_result_size,
        blob_threshold=shape.blob_threshold,
        serializer=shape.serializer,
        strict=shape.strict,
        decode_limit=shape.decode_limit,
        compression=_compression(document, (*path, "compression"), shaped),
        encryption=_encryption(document, (*path, "encryption"), shaped),
        place=document.place(path),
    )
    _check_package(document, (*path, "serializer"), entry.serializer)
    return entry


def _store_error(document: Document, path: Path, shaped: Shaped) -> tuple[StoreErrorPolicy, float]:
    """Return the policy and its patience in seconds.

    It is written as a word or as ``{retry: 2m}``.
    """
    node = document.node(path)
    if node is None:
        return "retry", PATIENCE
    if isinstance(node, Fields):
        shape = shaped(PatienceShape, path)
        return "retry", PATIENCE if shape is None else shape.retry
    policy = to_data(node)
    known: tuple[StoreErrorPolicy, ...] = get_args(StoreErrorPolicy)
    if policy in known:
        return policy, PATIENCE if policy == "retry" else 0.0
    hint = did_you_mean(policy, known) if isinstance(policy, str) else None
    if hint is None or not hint.startswith("Did"):
        hint = "Write {retry: 2m} to say for how long."
    document.report(path, f"must be one of {', '.join(known)}", hint)
    return "retry", PATIENCE


def _cache(document: Document, path: Path, shaped: Shaped) -> CacheEntry | None:
    node = document.node(path)
    if node is None or to_data(node) is None:
        return None
    if isinstance(node, Fields) and "classname" not in node.entries and "import" in node.entries:
        document.report(path, "this is how Selinon writes a cache", selinon.CACHE)
        document.looks_like_selinon = True
        return None
    shape = shaped(CacheShape, path)
    if shape is None:
        return None
    if shape.classname == "TTL" and shape.ttl is None:
        document.report(path, "a TTL cache needs a 'ttl', in seconds")
    if shape.classname != "TTL" and shape.ttl is not None:
        document.report((*path, "ttl"), "only a TTL cache has a 'ttl'", of_key=True)
    return CacheEntry(shape.classname, shape.size, shape.ttl)


def _check_package(document: Document, path: Path, name: str) -> None:
    """Report a serializer or codec whose package is not installed."""
    package = PACKAGES.get(name)
    if package is not None and not package.is_installed():
        document.report(path, f"{name} needs {package.module}, which is not installed", package.install_hint)


def _compression(document: Document, path: Path, shaped: Shaped) -> Compression | None:
    """Return the compression, from the name of a codec or a mapping."""
    node = document.node(path)
    if node is None or to_data(node) is None:
        return None
    is_mapping = isinstance(node, Fields)
    shape = shaped(CompressionShape, path) if is_mapping else _named_codec(document, path, to_data(node))
    if shape is None:
        return None
    _check_package(document, path, shape.codec)
    levels = LEVELS[shape.codec]
    if shape.level is not None and shape.level not in levels:
        document.report((*path, "level"), f"must be {levels[0]} to {levels[-1]} for {shape.codec}")
        return None
    return Compression(shape.codec, shape.level, shape.min_size)


def _named_codec(document: Document, path: Path, name: Any) -> CompressionShape | None:
    codecs = get_args(CompressionCodec)
    if name in codecs:
        return CompressionShape(codec=name)
    hint = did_you_mean(name, codecs) if isinstance(name, str) else None
    message = f"must be one of {', '.join(codecs)}, or a mapping with 'codec', 'level' and 'min_size'"
    document.report(path, message, hint if hint and hint.startswith("Did") else None)
    return None


def _encryption(document: Document, path: Path, shaped: Shaped) -> Encryption | None:
    """Return the encryption, with its keys read from their files."""
    node = document.node(path)
    if node is None or to_data(node) is None:
        return None
    shape = shaped(EncryptionShape, path)
    if shape is None:
        return None
    _check_package(document, path, AES)
    ring = document.node((*path, "keys"))
    if not isinstance(ring, Fields) or not ring.entries:
        document.report((*path, "keys"), "must be a mapping of ids to keys", _MAKE_KEY)
        return None
    keys = dict(_keys(document, (*path, "keys"), ring))
    ids = [key_id for key_id in ring.entries if isinstance(key_id, str)]
    if shape.active not in ids:
        document.report((*path, "active"), f"{shape.active!r} is not one of the keys", did_you_mean(shape.active, ids))
    return Encryption(keys, shape.active, shape.required) if shape.active in keys else None


def _keys(document: Document, path: Path, ring: Fields) -> Iterator[tuple[str, bytes]]:
    for key_id, node in children(ring):
        here = (*path, key_id)
        if not isinstance(key_id, str):
            document.report(here, "a key's id must be a string", "Quote it.", of_key=True)
        elif is_usable(node):
            key = _key(document, here, node)
            if key is not None:
                yield key_id, key


def _key(document: Document, path: Path, node: Node) -> bytes | None:
    file = file_of(node)
    try:
        text = _text(node) if file is None else read_secret(str(to_data(file)), document.base)
    except (OSError, ValueError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or "it is not UTF-8 text"
        document.report(path, f"can't read the key's file: {why}")
        return None
    key = None
    if text is not None:
        document.secrets.add(text)
        try:
            key = base64.b64decode(text.strip().translate(_URL_SAFE), validate=True)
        except (binascii.Error, ValueError):  # the second for text that is not ASCII
            key = None
    if key is None or len(key) != KEY_BYTES:
        given = "" if key is None else f", not {len(key)}"
        document.report(path, f"must be {KEY_BYTES} bytes{given}, as base64 text or {{file: path}}", _MAKE_KEY)
        return None
    return key


def _text(node: Node) -> str | None:
    if not isinstance(node, ScalarNode):
        return None
    text = node.value if node.expanded is None else node.expanded
    return text if isinstance(text, str) else None
