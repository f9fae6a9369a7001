"""Keys of tasks, and references to records."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from flowstore.errors import InvalidKeyError

SortKey = tuple[str, bytes]
"""A record's position in the order by task id: its task id, then ``Ref.address``."""

_LENGTHS = struct.Struct(">5Q")


def check_text(text: object, what: str) -> str:
    """Return the text if any database can store and compare it.

    Args:
        what: names the text in the error message.

    Raises:
        InvalidKeyError: it is not a string, or contains a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidKeyError(f"{what} must be a string, not {type(text).__name__}: {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidKeyError(
            f"{what} {text!r} contains a lone surrogate at {exc.start}, which no database can store"
        ) from exc
    return text


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The key of a task in a flow: three strings, kept exactly as given.

    No part is normalized, trimmed or split: ``Key("a:b", "c", "1")`` and ``Key("a", "b:c", "1")`` are different keys.

    Raises:
        InvalidKeyError: a part is not a string, or contains a lone surrogate.
    """

    flow_name: str
    task_name: str
    task_id: str

    def __post_init__(self) -> None:
        try:
            for part in (self.flow_name, self.task_name, self.task_id):
                str.encode(part)
        except (TypeError, UnicodeEncodeError):
            check_text(self.flow_name, "flow_name")
            check_text(self.task_name, "task_name")
            check_text(self.task_id, "task_id")

    def __str__(self) -> str:
        return f"{self.flow_name!r} / {self.task_name!r} / {self.task_id!r}"


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to one record: its kind, its key and its name.

    The name distinguishes records of the same kind and key. It is ``""`` for a result and for the error that ended a
    task; the error of an attempt that was retried is named by the attempt's number.
    """

    kind: str
    key: Key
    name: str = ""
    address: bytes = field(init=False, repr=False, compare=False)
    """SHA-256 of the parts and their lengths: short, safe in any database, different for any two references."""

    def __post_init__(self) -> None:
        # Hot: created for each operation. Unrolled, this takes a third less time than a loop.
        key = self.key
        try:
            kind, name = str.encode(self.kind), str.encode(self.name)
        except (TypeError, UnicodeEncodeError):
            check_text(self.kind, "kind")
            check_text(self.name, "name")
            raise
        flow, task, task_id = key.flow_name.encode(), key.task_name.encode(), key.task_id.encode()
        lengths = _LENGTHS.pack(len(kind), len(flow), len(task), len(task_id), len(name))
        address = hashlib.sha256(lengths + kind + flow + task + task_id + name).digest()
        object.__setattr__(self, "address", address)

    def __hash__(self) -> int:
        return hash(self.address)

    @property
    def names(self) -> tuple[str, str, str, str, str]:
        """The kind, the parts of the key, and the name."""
        key = self.key
        return self.kind, key.flow_name, key.task_name, key.task_id, self.name

    @property
    def sort_key(self) -> SortKey:
        """The record's position in the order by task id."""
        return self.key.task_id, self.address

    def __str__(self) -> str:
        return f"{self.kind} {self.key}" + (f" [{self.name}]" if self.name else "")
