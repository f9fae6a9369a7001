"""A checked configuration, as plain immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from flowstore.config.mistakes import Mistake, Place
from flowstore.encoding.codec import Compression, Encryption
from flowstore.encoding.serialize import Serializer

OWN_MODULE: Final = "flowstore.storages"
"""The module of a storage entry without ``import``."""

CacheClass = Literal["LRU", "FIFO", "LIFO", "MRU", "RR", "TTL"]
StoreErrorPolicy = Literal["retry", "fail", "log"]

PATIENCE: Final = 30.0
"""Seconds for which ``on_store_error: retry`` keeps trying.

A restart of a database or a package upgrade takes less.
"""
ConflictPolicy = Literal["replace", "keep", "error"]
HistoryPolicy = Literal["none", "errors", "all"]


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """How many results of a storage are cached, and which is evicted first.

    ``ttl`` is in seconds, and for TTL only.
    """

    classname: CacheClass
    size: int
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class StorageEntry:
    """A declared storage.

    ``expires`` and ``patience`` are in seconds; ``max_result_size``, ``blob_threshold`` and ``decode_limit`` in bytes.

    Attributes:
        configuration: the keyword arguments of the adapter's constructor. It may hold secrets, so it is not shown.
        patience: how long a call keeps trying while the storage can't be reached; 0 unless ``on_store_error`` is
            ``retry``.
        adapter: the class, once it is loaded.
        keeps_records: whether that class is a ``RecordStorage``, as all built-in ones are.
        missing_driver: what has to be installed before the storage can be used, if it was loaded without its driver.
    """

    name: str
    classname: str
    module: str = OWN_MODULE
    configuration: dict[str, Any] = field(default_factory=dict, repr=False)
    on_store_error: StoreErrorPolicy = "retry"
    patience: float = PATIENCE
    on_conflict: ConflictPolicy = "replace"
    history: HistoryPolicy = "none"
    cache: CacheEntry | None = None
    expires: float | None = None
    allow_clear: bool = True
    max_result_size: int | None = None
    blob_threshold: int | None = None
    serializer: Serializer = "json"
    strict: bool = False
    decode_limit: int | None = None
    compression: Compression | None = None
    encryption: Encryption | None = None
    place: Place = field(default=Place(), compare=False)
    adapter: type[Any] | None = field(default=None, compare=False, repr=False)
    keeps_records: bool = field(default=True, compare=False, repr=False)
    missing_driver: Mistake | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StorageReference:
    """A declared storage that another storage works on.

    ``path`` is where the other one names it.
    """

    name: str
    path: tuple[Any, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """What is configured for one Celery task.

    ``storage`` is None if the key is missing, and also for ``storage: null``, by which the task is not stored;
    ``has_storage_key`` distinguishes them. Likewise ``expires``, in seconds, for which ``null`` means never.
    """

    name: str
    storage: str | None = None
    has_storage_key: bool = False
    storage_readonly: bool = False
    storage_task_name: str | None = None
    output_schema: Mapping[str, Any] | None = field(default=None, repr=False)
    expires: float | None = None
    has_expires_key: bool = False
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """What is configured for one flow.

    ``storage`` is for its tasks that name none, and ``history`` overrides the storage's. ``expires`` is as in
    ``TaskEntry``.
    """

    name: str
    storage: str | None = None
    history: HistoryPolicy | None = None
    expires: float | None = None
    has_expires_key: bool = False
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A whole configuration.

    ``source`` is the path of the file, or ``"<mapping>"``. ``warnings`` holds what is allowed but unwise, such as a
    password in the file itself.
    """

    storages: dict[str, StorageEntry] = field(default_factory=dict)
    tasks: dict[str, TaskEntry] = field(default_factory=dict)
    flows: dict[str, FlowEntry] = field(default_factory=dict)
    default_storage: str | None = None
    source: str = "<mapping>"
    warnings: tuple[Mistake, ...] = ()
