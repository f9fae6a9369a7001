"""What YAML written for Selinon has that means nothing here, and what to do with it.

Its storages load as they are. Its tasks and flows are Celery's own here; what its files say of them is named once each.
"""

from __future__ import annotations

from typing import Final

MODULES: Final = frozenset(
    {"selinon.storage", "selinon.storages"}
    | {f"selinon.storages.{name}" for name in ("filesystem", "memory", "mongodb", "postgresql", "redis", "s3")}
)
"""Modules that it names adapters in. Where Selinon is installed, its own are meant."""

CLASSES: Final = {
    "Filesystem": "FileStorage",
    "InMemoryStorage": "MemoryStorage",
    "MongoDB": "MongoStorage",
    "PostgreSQL": "SqlStorage",
    "Redis": "RedisStorage",
    "S3": "S3Storage",
}
"""Its adapters, by their names in its releases, and ours."""

NO_ARGUMENTS: Final = {"InMemoryStorage": ("echo",)}
"""Arguments of its adapters that change nothing about what is stored, and that ours don't have."""

HINT: Final = (
    "This looks like a file for Selinon. Its storages are read as they are; its flows are Celery canvases here, which "
    "FlowStore.start starts, and its tasks are Celery's. What is named below can be deleted."
)

_CELERYS_TASKS: Final = "Delete it: Celery finds a task by its name."
_RETRIES: Final = "Delete it: retries are Celery's (max_retries, default_retry_delay and autoretry_for of a task)."
_QUEUES: Final = "Delete it: queues are Celery's (task_routes, task_default_queue)."
_CANVASES: Final = "Delete it: a flow is a Celery canvas, started with FlowStore.start."
_LOGGING: Final = "Delete it: flowstore keeps a history where a storage or flow says 'history', and logs with logging."

KEYS: Final[dict[str, dict[str, str]]] = {
    "": {
        "flow-definitions": _CANVASES,
        "migration_dir": "Delete it: flows are code here, and change with it.",
    },
    "tasks": {
        "classname": _CELERYS_TASKS,
        "import": _CELERYS_TASKS,
        "max_retry": _RETRIES,
        "retry_countdown": _RETRIES,
        "queue": _QUEUES,
        "throttling": "Delete it: throttling is Celery's (rate_limit of a task).",
        "selective_run_function": _CANVASES,
    },
    "global": {
        "default_queue": _QUEUES,
        "default_task_queue": _QUEUES,
        "default_dispatcher_queue": _QUEUES,
        "trace": _LOGGING,
        "predicates_module": _CANVASES,
        "inspect_files": _CANVASES,
        "migration_dir": "Delete it: flows are code here, and change with it.",
    },
}
"""Its keys that flowstore has no use for, by section, and what to do."""

CACHE: Final = "Write cache: {classname: LRU, size: 100}."
CACHE_KEYS: Final = ("name", "import", "configuration")
