"""How a storage's values are written: ``serializer``, ``compression``, ``encryption``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, get_args

from flowstore.config.document import Document
from flowstore.config.mistakes import did_you_mean
from flowstore.config.nodes import Fields, Node, Path, Scalar, children, is_sound, to_data
from flowstore.config.secrets import file_of, read_secret
from flowstore.config.shape import CompressionShape, EncryptionShape, Shape
from flowstore.encoding.codec import AES, KEY_BYTES, LEVELS, PACKAGES, Compression, CompressionCodec, Encryption

_MAKE_KEY: Final = "Make one with: openssl rand -base64 32."

AnyShape = TypeVar("AnyShape", bound=Shape)
Shaped = Callable[[type[AnyShape], Path], AnyShape | None]


def check_package(document: Document, path: Path, name: str) -> None:
    """Report that the package which a serializer or codec needs is not installed."""
    package = PACKAGES.get(name)
    if package is not None and not package.is_installed():
        document.report(path, f"{name} needs {package.module}, which is not installed", package.hint)


def read_compression(document: Document, path: Path, shaped: Shaped[CompressionShape]) -> Compression | None:
    """Return the ``compression`` at a path: the name of a codec, or a mapping; report its mistakes."""
    node = document.node(path)
    if node is None or to_data(node) is None:
        return None
    is_mapping = isinstance(node, Fields)
    shape = shaped(CompressionShape, path) if is_mapping else _named_codec(document, path, to_data(node))
    if shape is None:
        return None
    check_package(document, path, shape.codec)
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


def read_encryption(document: Document, path: Path, shaped: Shaped[EncryptionShape]) -> Encryption | None:
    """Return the ``encryption`` at a path, its keys read from their files; report its mistakes."""
    node = document.node(path)
    if node is None or to_data(node) is None:
        return None
    shape = shaped(EncryptionShape, path)
    if shape is None:
        return None
    check_package(document, path, AES)
    ring = document.node((*path, "keys"))
    if not isinstance(ring, Fields) or not ring.entries:
        document.report((*path, "keys"), "must be a mapping of ids to keys", _MAKE_KEY)
        return None
    keys = dict(_keys(document, (*path, "keys"), ring))
    ids = [key_id for key_id in ring.entries if isinstance(key_id, str)]
    if shape.active not in ids:
        document.report((*path, "active"), f"there is no key {shape.active!r}", did_you_mean(shape.active, ids))
    return Encryption(keys, shape.active, shape.required) if shape.active in keys else None


def _keys(document: Document, path: Path, ring: Fields) -> Iterator[tuple[str, bytes]]:
    for key_id, node in children(ring):
        here = (*path, key_id)
        if not isinstance(key_id, str):
            document.report(here, "a key's id must be a string", "Quote it.", of_key=True)
        elif is_sound(node):
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
        except (binascii.Error, ValueError):  # the second for what is not ASCII
            key = None
    if key is None or len(key) != KEY_BYTES:
        given = "" if key is None else f", not {len(key)}"
        document.report(path, f"must be {KEY_BYTES} bytes{given}, as base64 text or {{file: path}}", _MAKE_KEY)
        return None
    return key


def _text(node: Node) -> str | None:
    if not isinstance(node, Scalar):
        return None
    text = node.value if node.expanded is None else node.expanded
    return text if isinstance(text, str) else None


_URL_SAFE: Final = str.maketrans("-_", "+/")
