"""From YAML to a checked configuration, with the place of each mistake.

The modules, in the order in which a configuration passes them:

- ``reading``: finds the file and its profile, and puts everything together. ``parsing`` makes a tree of the YAML text,
  ``document`` is that tree with its mistakes, ``variables`` expands ``{VAR}``, ``overrides`` merges what wins over the
  file, ``secrets`` finds what must not be shown.
- ``checking``: checks the tree against ``shapes``. ``storages`` reads the entries of storages, ``selinon`` knows the
  keys of Selinon's files. The result is the ``model``; ``mistakes`` are returned beside it.
- ``loading``: checks the adapters too. ``adapters`` finds and constructs their classes, ``arguments`` checks what they
  are given. ``json_schema`` describes all of it to editors.

Importing this package is cheap: everything but the classes of the model is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.config.mistakes import Mistake, Place
from flowstore.config.model import CacheEntry, Configuration, FlowEntry, HistoryPolicy, StorageEntry, TaskEntry

if TYPE_CHECKING:
    from flowstore.config.reading import read

__all__ = [
    "CacheEntry",
    "Configuration",
    "FlowEntry",
    "HistoryPolicy",
    "Mistake",
    "Place",
    "StorageEntry",
    "TaskEntry",
    "read",
]


def __getattr__(name: str) -> Any:
    if name != "read":
        raise AttributeError(f"module 'flowstore.config' has no attribute {name!r}")
    from flowstore.config.reading import read

    return read
