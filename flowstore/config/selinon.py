"""Files written for Selinon: what is read as it is, and what to delete.

Storages are read as they are. Tasks and flows are Celery's here; each key about them is reported once.
"""

from __future__ import annotations

from typing import Final

MODULES: Final = frozenset(
    {"selinon.storage", "selinon.storages"}
    | {f"selinon.storages.{name}" for name in ("filesystem", "memory", "mongodb", "postgresql", "redis", "s3")}
)
"""Modules that its files import adapters from.

If Selinon is installed, they are imported; otherwise our adapters are used.
"""

CLASSES: Final = {
    "Filesystem": "FileStorage",
    "InMemoryStorage": "MemoryStorage",
    "MongoDB": "MongoStorage",
    "PostgreSQL": "SqlStorage",
    "Redis": "RedisStorage",
    "S3": "S3Storage",
}
"""Our adapters, by the names of Selinon's."""

NO_ARGUMENTS: Final = {"InMemoryStorage": ("echo",)}
"""Arguments of its adapters that ours ignore, by the name of the adapter."""

HINT: Final = (
    "This looks like a file for Selinon. Its storages are read as they are. Its flows are Celery canvases here, which "
    "FlowStore.start starts, and its tasks are Celery's. Delete the keys below."
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
"""What to do about keys that flowstore does not have, by section and key."""

CACHE: Final = "Write cache: {classname: LRU, size: 100}."
