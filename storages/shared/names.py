"""Names of the files and folders of records."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from flowstore.record import Key, Query, Ref

_PLAIN_KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,59}")
KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,59}|0[0-9a-f]{64}")
"""The name of a kind's folder."""
SHARD: Final = re.compile(r"[0-9a-f]{2}")
"""The name of a shard's folder."""
NAME: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}")
"""The name of a record's file."""


@dataclass(frozen=True, slots=True)
class Location:
    """The place of a record's file: ``records/<kind>/<shard>/<name>``.

    The name begins with a hash of the key, so that all records of a key are found together. No part of a key is part of
    a path.
    """

    kind: str
    name: str

    @classmethod
    def of(cls, ref: Ref) -> Location:
        return cls(kind_folder(ref.kind), f"{key_hash(ref.key)}-{ref.address.hex()}")

    @property
    def plain_kind(self) -> str | None:
        """The kind, or None if the folder's name is its hash."""
        return self.kind if _PLAIN_KIND.fullmatch(self.kind) else None

    @property
    def shard(self) -> str:
        return self.name[:2]


def kind_folder(kind: str) -> str:
    """Return a kind's folder: the kind if that is safe, otherwise its hash."""
    return kind if _PLAIN_KIND.fullmatch(kind) else "0" + hashlib.sha256(kind.encode()).hexdigest()


def key_hash(key: Key) -> str:
    """Return the part of a file's name that identifies the key."""
    return Ref("", key).address.hex()[:16]


def key_hashes(query: Query) -> set[str] | None:
    """Return the hashes of a query's keys, or None if keys are not given."""
    task_ids = query.task_ids if query.task_id is None else (query.task_id,)
    if query.flow_name is None or query.task_name is None or task_ids is None:
        return None
    return {key_hash(Key(query.flow_name, query.task_name, task_id)) for task_id in task_ids}
