"""Watching what a piece of code does to the outside: connections, files, processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_EVENTS: Final = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
        "sqlite3.connect",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "subprocess.Popen",
    }
)
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_watching = threading.local()
_installed = threading.Event()


@contextmanager
def side_effects() -> Iterator[list[str]]:
    """Collect what this thread does to the outside; what the import of modules writes is left out.

    What a driver written in C does is not seen, except by its descriptors.
    """
    # A hook can't be removed: there is one, which mostly does nothing.
    if not _installed.is_set():
        _installed.set()
        sys.addaudithook(_hear)
    actions: list[str] = []
    before = descriptors()
    _watching.actions = actions
    try:
        yield actions
    finally:
        del _watching.actions
        actions += [f"opened {target}" for target in sorted(set(descriptors()) - set(before))]


def descriptors() -> list[str]:
    """Return what this process has open, where the system tells it."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return []
    found = []
    for number in numbers:
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the listing's own
    return found


def _hear(event: str, args: tuple[Any, ...]) -> None:
    actions: list[str] | None = getattr(_watching, "actions", None)
    if actions is None:
        return
    if event in _EVENTS:
        actions.append(f"{event}{args[:2]!r}")
    elif event == "open" and isinstance(args[2], int) and args[2] & _WRITES and "__pycache__" not in str(args[0]):
        actions.append(f"open for writing: {args[0]}")
