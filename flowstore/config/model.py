"""A validated configuration, as plain immutable values."""

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
"""Seconds for which ``on_store_error: retry`` keeps trying: a restart of a database, a package upgrade."""
ConflictPolicy = Literal["replace", "keep", "error"]
HistoryPolicy = Literal["none", "errors", "all"]


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """How many results of a storage are cached, and which one makes room; ``ttl`` is in seconds and for TTL only."""

    classname: CacheClass
    size: int
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class StorageEntry:
    """A declared storage.

    ``configuration`` holds the keyword arguments of the adapter's constructor. It may hold secrets, so it is not shown.
    ``expires`` is in seconds, ``max_result_size``, ``blob_threshold`` and ``decode_limit`` in bytes. ``patience`` is
    for how many seconds a call keeps trying while the storage can't be reached: 0 unless ``on_store_error`` is
    ``retry``. Loading finds the class: ``adapter``, ``keeps_records`` (whether it is a ``RecordStorage``, as all
    built-in ones are), and ``lacks``, which is what has to be installed for it, where it was kept nevertheless.
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
    lacks: Mistake | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StorageReference:
    """The name of a declared storage where another storage works on it, and its path in the configuration."""

    name: str
    path: tuple[Any, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """What is configured for one Celery task.

    ``storage`` is ``None`` both where none was named and where ``storage: null`` says that the task isn't stored;
    ``has_storage_key`` tells the two apart. So it is with ``expires``, in seconds, whose ``null`` means never.
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
    """What is configured for one flow: the storage of its tasks that name none, and its history if not its storage's.

    ``expires`` is as in ``TaskEntry``.
    """

    name: str
    storage: str | None = None
    history: HistoryPolicy | None = None
    expires: float | None = None
    has_expires_key: bool = False
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a configuration says.

    ``source`` is the path of the file, or ``"<mapping>"``. ``warnings`` holds what is allowed but unwise, such as a
    password that is written in the file itself.
    """

    storages: dict[str, StorageEntry] = field(default_factory=dict)
    tasks: dict[str, TaskEntry] = field(default_factory=dict)
    flows: dict[str, FlowEntry] = field(default_factory=dict)
    default_storage: str | None = None
    source: str = "<mapping>"
    warnings: tuple[Mistake, ...] = ()
